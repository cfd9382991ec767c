import Dataplane
import Glibc
import Linux

/// What control pays for a change of one port beside a thousand others: `swivel-count changes`.
///
/// Workers have no threads here, so what is measured is control's own work: making what workers work by, and the barrier
/// before what was replaced is freed. It is a time, and so says something of this machine only; beside it stands the time
/// for one port among one.
struct Changes {
  private let plane: Dataplane
  private let ports: [Int]
  private let guest: Guest

  private static let rounds = 400

  init(ports count: Int, workers: Int) throws {
    plane = try Dataplane(
      .init(
        workers: (0..<workers).map { _ in .init(cpu: nil, node: 0) }, hugepages: false,
        threads: false))
    let guest = try Guest(0, pair: 0, Workload("changes"))
    let plane = plane
    self.guest = guest
    ports = try (0..<count).map { _ in try plane.addPort(pairs: 1) }
    for (number, port) in ports.enumerated() {
      for error in plane.startQueues(
        try Changes.starts(guest, worker: number % workers), of: port)
      {
        if let error { throw error }
      }
    }
  }

  /// Every port's rings are the same ones: nobody polls them.
  private static func starts(_ guest: Guest, worker: Int) throws -> [QueueStart] {
    let region = try guest.map()
    let memory = GuestMemory([
      MappedRegion(guestAddress: region.guest, userAddress: region.user, mapping: region.mapping)
    ])
    return [guest.receiveqPlace, guest.transmitqPlace].enumerated().map { index, place in
      QueueStart(
        index,
        .ring(
          RingSetup(
            size: Guest.ringSize, descriptors: place.descriptors, avail: place.avail,
            used: place.used, base: place.base, eventIndex: false, indirect: false,
            mergeable: true, version1: true, enabled: true, kick: nil, call: nil),
          memory: memory), worker: worker)
    }
  }

  /// Microseconds of each kind of change, the median of many.
  func measure() throws -> [(name: String, microseconds: Double)] {
    let port = ports[ports.count / 2]
    let both = try Changes.starts(guest, worker: 0)
    let call = try EventFD().descriptor
    var times: [[Double]] = Array(repeating: [], count: 6)
    for _ in 0..<Changes.rounds {
      times[0].append(time { _ = plane.stopQueues([1], of: port) })
      times[1].append(time { _ = plane.startQueues([both[1]], of: port) })
      times[2].append(time { plane.setEnabled(false, queue: 0, of: port) })
      times[3].append(time { plane.setEnabled(true, queue: 0, of: port) })
      times[4].append(time { plane.setCall(call, queue: 1, of: port) })
      times[5].append(
        time {
          _ = plane.stopQueues([0, 1], of: port)
          _ = plane.startQueues(both, of: port)
        })
    }
    let names = [
      "transmitq stopped", "transmitq started", "receiveq disabled", "receiveq enabled",
      "call eventfd swapped", "both rings stopped, and started",
    ]
    return zip(names, times).map { ($0, $1.sorted()[Changes.rounds / 2]) }
  }

  private func time(_ body: () -> Void) -> Double {
    let start = ContinuousClock.now
    body()
    return start.duration(to: .now) / .microseconds(1)
  }

  func stop() { plane.stop() }

  static func run() throws {
    print("microseconds of control a change, median of \(rounds); ports, workers:")
    var columns: [[Double]] = []
    var names: [String] = []
    let sizes = [(1, 1), (1000, 1), (1000, 8)]
    for (ports, workers) in sizes {
      let changes = try Changes(ports: ports, workers: workers)
      let measured = try changes.measure()
      changes.stop()
      names = measured.map(\.name)
      columns.append(measured.map(\.microseconds))
    }
    func cell(_ text: String) -> String {
      String(repeating: " ", count: max(0, 10 - text.count)) + text
    }
    print(
      String(repeating: " ", count: 34) + sizes.map { cell("\($0.0), \($0.1)") }.joined())
    for (row, name) in names.enumerated() {
      let figures = columns.map { cell("\(($0[row] * 10).rounded() / 10)") }
      print(name + String(repeating: " ", count: 34 - name.count) + figures.joined())
    }
  }
}
