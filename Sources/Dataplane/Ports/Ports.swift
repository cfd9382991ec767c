internal import Synchronization

/// The ports as workers see them: for each number where its frames go, and which ports a flood reaches.
///
/// # Theory of operation
///
/// Here lives what is known of ports. `PortRecord` is control's: which queues run, under the data plane's lock. From it
/// control makes what workers work by, each piece of which never changes and is replaced whole: an `Output` for each
/// port that is up, found here by the port's number; the list of ports that a flood goes to; and, in `Plan`, the
/// queues that each worker polls. So a change costs what it changes: another output for the port it concerns, another
/// plan for the workers that poll its queues, and nothing for anybody else. What was replaced is freed when no worker
/// can hold it (`Quiescence`).
///
/// What must not be lost by that lies in the port's own memory, in which things do change, and which lives as long as
/// the port, whatever comes and goes (`PortState`, and for each queue `QueueState`).
///
/// A worker reads an output anew for each delivery, with one acquire load. Between finding that a port is up and
/// delivering to it control may take its output away; then the frames are dropped by the same name as if the port had been found down.
///
/// SAFETY: indices are port numbers, below `maximum`; the words hold 0 or the address of what control has made and not
/// freed.
@safe struct Ports: @unchecked Sendable {
  /// Ports have numbers below this.
  static let maximum = ForwardingTable.maximumPorts
  static let byteCount = Arena.line + maximum * MemoryLayout<UInt>.stride

  private let words: UnsafeMutablePointer<Atomic<UInt>>
  private static let first = Arena.line / MemoryLayout<UInt>.stride

  /// - Parameter memory: `byteCount` zeroed bytes, cache-line aligned, which outlive every copy of this.
  init(_ memory: UnsafeMutableRawPointer) {
    unsafe words = unsafe memory.bindMemory(
      to: Atomic<UInt>.self, capacity: Ports.first + Ports.maximum)
  }

  // ---- Workers ----

  /// Where frames for a port go; `nil`: it is down.
  @inline(always)
  func output(_ port: Int) -> UnsafePointer<Output>? {
    unsafe UnsafePointer(
      bitPattern: words[Ports.first &+ port].load(ordering: .acquiring))
  }

  /// The ports that are up.
  @inline(always)
  var flood: FloodList {
    unsafe FloodList(UnsafeRawPointer(bitPattern: words[0].load(ordering: .acquiring)))
  }

  // ---- Control ----

  /// Gives a port another output, or none; returns the old one.
  func exchange(_ port: Int, _ output: UnsafePointer<Output>?) -> UnsafePointer<Output>? {
    unsafe UnsafePointer(
      bitPattern: words[Ports.first + port].exchange(
        UInt(bitPattern: output), ordering: .acquiringAndReleasing))
  }

  /// Gives floods other ports to go to; returns the old list's memory.
  func exchange(flood list: UnsafeRawPointer?) -> UnsafeRawPointer? {
    unsafe UnsafeRawPointer(
      bitPattern: words[0].exchange(UInt(bitPattern: list), ordering: .acquiringAndReleasing))
  }
}

/// The numbers of the ports that are up. It never changes.
///
/// SAFETY: the memory begins with the count, and that many numbers follow.
@safe struct FloodList {
  private let base: UnsafeRawPointer?

  @inline(always)
  init(_ base: UnsafeRawPointer?) { unsafe self.base = unsafe base }

  @inline(always)
  var count: Int { unsafe base?.load(as: Int.self) ?? 0 }

  @inline(always)
  subscript(index: Int) -> Int {
    unsafe Int(base.unsafelyUnwrapped.load(fromByteOffset: 8 &+ 2 &* index, as: UInt16.self))
  }

  static func allocate(_ ports: [UInt16]) -> UnsafeRawPointer {
    let memory = unsafe SharedMemory.allocate(bytes: 8 + 2 * ports.count)
    unsafe memory.storeBytes(of: ports.count, as: Int.self)
    for (index, port) in ports.enumerated() {
      unsafe memory.storeBytes(of: port, toByteOffset: 8 + 2 * index, as: UInt16.self)
    }
    return UnsafeRawPointer(memory)
  }
}

/// Memory of what control makes for workers to read: in whole pairs of cache lines of its own, as the processor fetches
/// them, so that nothing that control writes elsewhere takes a line from a worker.
enum SharedMemory {
  static func allocate(bytes: Int) -> UnsafeMutableRawPointer {
    UnsafeMutableRawPointer.allocate(byteCount: (bytes + 127) / 128 * 128, alignment: 128)
  }
}
