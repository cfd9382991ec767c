import Synchronization
import Testing
import VirtioDriver

/// Pairs of guests that exchange checked frames while something else goes on.
struct SteadyTraffic {
  let guests: [GuestPort]
  private let stations: [Station]
  private let progress: [StreamProgress]

  /// Guests 0 and 1 send to each other, 2 and 3, and so on; guest n is station n and sends stream n.
  init(_ guests: [GuestPort], lengths: ClosedRange<Int> = 60...600) throws {
    precondition(guests.count % 2 == 0)
    try introduce(guests)
    let progress = guests.map { _ in StreamProgress() }
    self.guests = guests
    self.progress = progress
    stations = try guests.indices.map { index in
      let peer = index ^ 1
      return try Station(
        guests[index],
        flows: [
          .init(
            to: .station(peer), from: .station(index), progress: progress[index],
            stream: UInt32(index))
        ], lengths: lengths, progress: [UInt32(peer): progress[peer]])
    }
  }

  /// Frames that have arrived so far.
  var arrived: UInt64 { progress.reduce(0) { $0 + $1.next.load(ordering: .relaxed) } }

  /// Waits until every stream has moved on by `frames`.
  func advance(by frames: UInt64) -> Bool {
    let marks = progress.map { $0.next.load(ordering: .relaxed) + frames }
    return eventually {
      zip(progress, marks).allSatisfy { $0.next.load(ordering: .relaxed) >= $1 }
    }
  }

  /// Ends the traffic; every frame is to have arrived, whole and in order.
  func expectNothingLost() throws {
    for (index, result) in stop().enumerated() {
      let stream = try #require(result.checkers[UInt32(index ^ 1)])
      #expect(stream.received > 0)
      #expect(stream.missing == 0 && stream.reordered == 0 && result.corrupt == 0)
      #expect(guests[index].offences == [])
    }
  }

  /// Ends the traffic and takes what is still under way. By guest.
  func stop() -> [Station.Result] {
    var results = stations.map { $0.stop() }
    for guest in guests { guest.settle() }
    for (index, guest) in guests.enumerated() { Station.receive(guest.pairs[0], &results[index]) }
    return results
  }
}
