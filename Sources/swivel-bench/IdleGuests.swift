import Linux
import VirtioDriver

/// Guests that are there and silent, a port each: connected, their rings started, every receive buffer posted and no
/// frame to be sent. Nobody looks at their rings while something is measured: what they cost, they cost the switch.
///
/// Each has memory, a connection and a queue pair of its own, as any guest has. Of the memory only what is touched is
/// there, some 32 KiB a guest.
final class IdleGuests {
  private(set) var guests: [GuestPort] = []
  private var paths: [String] = []

  /// Descriptors of a guest: of its memory, the connection, and two eventfds a queue.
  private static let descriptors = 6

  /// Lets this process, and a daemon that it starts, have the descriptors for `count` guests.
  static func makeRoom(for count: Int) throws {
    if count == 0 { return }
    let needed = 256 + descriptors * count
    let limit = OpenFiles.raiseLimit()
    guard limit >= needed else {
      throw BenchError(
        "\(count) idle ports take \(needed) open files, but only \(limit) are allowed (ulimit -Hn)")
    }
  }

  /// Attaches a guest to each of `paths`. Each sends one frame to `greeting`, so that the switch knows its address,
  /// and has its buffer back before this returns.
  ///
  /// - Parameter pause: called after every few frames: takes them where they come.
  func come(
    _ paths: some Sequence<String>, _ plan: Plan, greeting: EthernetAddress,
    _ pause: () throws -> Void
  ) throws {
    for path in paths {
      do {
        guests.append(try GuestPort(path: path, options: IdleGuests.options(plan)))
      } catch {
        throw BenchError("\(path): \(BenchError(error))")
      }
      self.paths.append(path)
    }
    for first in stride(from: 0, to: guests.count, by: 32) {
      let numbers = first..<min(first + 32, guests.count)
      for number in numbers {
        _ = guests[number].send(frame(from: number, to: greeting))
      }
      for number in numbers { try awaitReturn(number) }
      try pause()
    }
  }

  static func options(_ plan: Plan) -> GuestPort.Options {
    var options = GuestPort.Options()
    options.ringSize = plan.ringSize
    options.transmitBufferLength = 256
    options.spareMemory = 0
    options.timeout = 30_000
    if !plan.mergeable { options.features.remove(.mrgRxbuf) }
    if plan.ring == .packed { options.features.insert(.ringPacked) }
    if plan.inOrder { options.features.insert(.inOrder) }
    return options
  }

  /// A small frame of guest `number`.
  func frame(from number: Int, to destination: EthernetAddress) -> [UInt8] {
    EthernetFrame.make(to: destination, from: IdleGuests.address(number), length: 64)
  }

  /// Above those of all lanes (`Bed.address`).
  static func address(_ number: Int) -> EthernetAddress { .station(0x2000_0000 | number) }

  /// Waits until the switch has taken what guest `number` has sent.
  private func awaitReturn(_ number: Int) throws {
    let pair = guests[number].pairs[0]
    let isBack = Deadline.wait(milliseconds: 10_000) {
      pair.reclaim()
      return pair.transmitq.outstanding == 0
    }
    if !isBack {
      throw BenchError("\(paths[number]): the switch does not take an idle guest's frame")
    }
  }

  /// Fails when a back-end has hung up or broken its ring's rules.
  func check() throws {
    for (guest, path) in zip(guests, paths) {
      if guest.frontEnd.isClosed() {
        throw BenchError("\(path): the switch has closed an idle guest's connection")
      }
      if let offence = guest.offences.first {
        throw BenchError("\(path): the switch broke a rule of virtio: \(offence)")
      }
    }
  }
}
