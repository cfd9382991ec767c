/// What the guests do, always the same.
struct Workload {
  /// How a frame lies in descriptors, with its virtio-net header.
  enum Layout {
    /// Both in one.
    case single
    /// The header in one, the frame in the next.
    case chain
    /// As `chain`, in an indirect table.
    case indirect
    /// The header in one, the frame's own headers in the next, the rest in a third: as Linux sends what a program has
    /// written to a TCP socket.
    case parts
  }

  /// What the frames, of TCP over IPv4, ask for, and what becomes of it.
  enum Request {
    /// A checksum, which the receiver takes over.
    case checksum
    /// A checksum, which the switch completes.
    case completed
    /// Segments of 1448 bytes, which the receiver can't take whole; it takes over checksums.
    case segments
  }

  var name: String
  /// Bytes of a frame.
  var length = 64
  /// Frames that each sender has ready before a turn, and such turns.
  var burst = 64
  var rounds = 80
  /// Addresses of each port, which take turns frame by frame.
  var addresses = 1
  var layout = Layout.single
  var request: Request?
  var mergeable = true
  var packed = false
  var inOrder = false
  var ports = 2
  /// Queue pairs of the ports, which take turns; each sends `burst` frames a turn.
  var pairs = [1]
  /// One port sends, to all others; else each of two sends to the other.
  var floods = false
  /// The guests migrate: what is written is marked in a log of dirty pages.
  var logged = false
  /// Every frame of the first port but one of each burst has a source address that nobody has heard of.
  var inventsSources = false

  func pairs(of port: Int) -> Int { pairs[port % pairs.count] }

  /// Of two ports with several pairs: UDP flows between them, which are dealt out to the pairs of each.
  static let flows = 64

  init(_ name: String, _ change: (inout Workload) -> Void = { _ in }) {
    self.name = name
    change(&self)
  }

  /// Turns before those that are counted: every buffer has been used, every address learned.
  static let warmUp = 8

  static let all = [
    Workload("split"),
    Workload("split-not-mergeable") { $0.mergeable = false },
    Workload("split-in-order") { $0.inOrder = true },
    Workload("split-64-addresses") { $0.addresses = 64 },
    Workload("split-new-sources") { $0.inventsSources = true },
    Workload("split-1514-bytes") { $0.length = 1514 },
    Workload("split-flood-to-8") {
      $0.floods = true
      $0.ports = 9
      $0.rounds = 160
    },
    Workload("split-chain") { $0.layout = .chain },
    Workload("split-indirect") { $0.layout = .indirect },
    Workload("split-parts") {
      $0.layout = .parts
      $0.length = 1514
    },
    Workload("split-64-KiB") {
      $0.length = 1 << 16
      // As many as are taken in a turn.
      $0.burst = 2
      $0.rounds = 200
    },
    Workload("split-checksum") { $0.request = .checksum },
    Workload("split-checksum-completed") {
      $0.request = .completed
      $0.length = 1514
    },
    Workload("split-4-segments") {
      $0.request = .segments
      $0.length = 54 + 4 * 1448
      $0.burst = 16
      $0.rounds = 160
    },
    Workload("split-bursts-of-1") {
      $0.burst = 1
      $0.rounds = 5000
    },
    Workload("split-8-pairs") {
      $0.pairs = [8]
      $0.rounds = 20
    },
    Workload("split-1-and-8-pairs") {
      $0.pairs = [1, 8]
      $0.burst = 32
      $0.rounds = 40
    },
    Workload("split-logged") { $0.logged = true },
    Workload("split-64-KiB-logged") {
      $0.logged = true
      $0.length = 1 << 16
      $0.burst = 2
      $0.rounds = 200
    },
    Workload("packed") { $0.packed = true },
    Workload("packed-not-mergeable") {
      $0.packed = true
      $0.mergeable = false
    },
    Workload("packed-in-order") {
      $0.packed = true
      $0.inOrder = true
    },
    Workload("packed-64-addresses") {
      $0.packed = true
      $0.addresses = 64
    },
    Workload("packed-indirect") {
      $0.packed = true
      $0.layout = .indirect
    },
    Workload("packed-64-KiB") {
      $0.packed = true
      $0.length = 1 << 16
      // As many as are taken in a turn.
      $0.burst = 2
      $0.rounds = 200
    },
    Workload("packed-logged") {
      $0.packed = true
      $0.logged = true
    },
    Workload("packed-bursts-of-1") {
      $0.packed = true
      $0.burst = 1
      $0.rounds = 5000
    },
    // What is counted here is a turn.
    Workload("idle-turn-split") {
      $0.burst = 0
      $0.rounds = 1000
    },
    Workload("idle-turn-packed") {
      $0.packed = true
      $0.burst = 0
      $0.rounds = 1000
    },
  ]
}
