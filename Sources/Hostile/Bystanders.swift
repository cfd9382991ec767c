internal import Linux
internal import Synchronization
internal import VirtioDriver

/// Two guests that do nothing wrong: they send each other checked frames without an end, never more under way than
/// fit the rings, so that whatever is lost, late or not whole is the switch's doing.
public final class Bystanders: Sendable {
  /// What happened to the frames of both since a moment.
  public struct Reading: Sendable, Equatable {
    public var arrived = 0
    public var missing = 0
    public var reordered = 0
    /// Frames that were not whole. What others send to a bystander is no business of its.
    public var corrupt = 0
    /// Seconds, the longest that one of them waited for a frame.
    public var longestPause = 0.0

    static func - (after: Reading, before: Reading) -> Reading {
      Reading(
        arrived: after.arrived - before.arrived, missing: after.missing - before.missing,
        reordered: after.reordered - before.reordered, corrupt: after.corrupt - before.corrupt,
        longestPause: after.longestPause)
    }
  }

  private let guests: [GuestPort]
  private let stations: [Station]
  private let progress: [StreamProgress]

  /// Attaches to two sockets; both guests' addresses, `.station(0)` and `.station(1)`, become known by what they send.
  ///
  /// - Parameters:
  ///   - ringSize: descriptors of their rings. What their own frames leave free is for what others flood.
  init(_ sockets: [String], ringSize: Int = 256) throws {
    var options = GuestPort.Options()
    options.ringSize = ringSize
    options.timeout = 30_000
    let guests = try sockets.map { try GuestPort(path: $0, options: options) }
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
        ], burst: 8, rests: true, sources: [.station(peer)],
        progress: [UInt32(peer): progress[peer]])
    }
  }

  /// Everything so far, and the longest pause since `forgetPauses`, the one that lasts included.
  var reading: Reading {
    var reading = Reading()
    for one in progress {
      reading.arrived += one.received.load(ordering: .relaxed)
      reading.missing += one.missing.load(ordering: .relaxed)
      reading.reordered += one.reordered.load(ordering: .relaxed)
      let pause = max(one.longestPause.load(ordering: .relaxed), one.pause)
      reading.longestPause = max(reading.longestPause, Double(pause) / 1e9)
    }
    for station in stations { reading.corrupt += station.corrupt.load(ordering: .relaxed) }
    return reading
  }

  func forgetPauses() {
    for one in progress { one.longestPause.store(0, ordering: .relaxed) }
  }

  /// Waits until each has got `frames` more; false when `milliseconds` were not enough.
  func advance(by frames: Int, milliseconds: Int) -> Bool {
    let marks = progress.map { $0.received.load(ordering: .relaxed) + frames }
    return Deadline.wait(milliseconds: milliseconds) {
      zip(progress, marks).allSatisfy { $0.received.load(ordering: .relaxed) >= $1 }
    }
  }

  /// Lets them send nothing for a while, and go on; what comes they take all the time.
  func rest(_ rests: Bool) {
    for station in stations { station.isSilent.store(rests, ordering: .relaxed) }
  }

  /// What each has counted, while they rest or after `stop`.
  var statistics: [QueuePair.Statistics] { guests.map(\.statistics) }

  /// What the switch did against the specification, in words, while they rest or after `stop`.
  var offences: [String] { guests.flatMap(\.offences) }

  func stop() {
    for station in stations { _ = station.stop() }
    for guest in guests { guest.disconnect() }
  }
}
