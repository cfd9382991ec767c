import VirtioDriver

@testable import Dataplane

/// A frame behind a virtio-net header, both whatever the input says, in a chain that is in order, to receivers that
/// take over more or less.
///
/// An input is: layout, virtio-net header (10 bytes), bytes of the frame (2), the frame; what is missing of it is a
/// pattern. What is held: the virtio and the rings' rules; that a receiver gets either the frame with what it asked
/// for, or the same with a checksum completed as a naive sum says, or segments whose payload put together is the
/// frame's, each with right lengths, checksums and sequence number; and that the books balance.
enum OffloadTarget {
  nonisolated(unsafe) private static let benches = [true, false].map {
    do { return try Bench(vectors: $0) } catch { fatalError("\(error)") }
  }

  static func run(_ input: inout Input) {
    benches[Int(input.byte() & 1)].run(&input)
  }

  /// A receiver, and what it takes over.
  private struct Receiver {
    var guest: HonestGuest
    var takes: Offloads
  }

  private final class Bench {
    let fabric: FuzzPlane
    let sender: HonestGuest
    let port: Int
    let receivers: [Receiver]
    let uplink: Uplink

    init(vectors: Bool) throws {
      fabric = try FuzzPlane(vectors: vectors)
      sender = try HonestGuest([.csum], transmit: 12 + 65_600)
      port = try fabric.add(sender, asks: .all)
      let guestAll: VirtioFeatures = [
        .guestCsum, .guestTSO4, .guestTSO6, .guestECN, .guestUSO4, .guestUSO6,
      ]
      let kinds: [(VirtioFeatures, Offloads, Int)] = [
        ([.mrgRxbuf], .none, 2048),
        ([.mrgRxbuf, .ringPacked], .all, 4096),
        ([.guestCsum], .checksum, 66_000),
        ([.mrgRxbuf, .guestCsum, .guestTSO4], .checksum.union(.tcp4), 1024),
      ]
      var receivers: [Receiver] = []
      for (features, takes, length) in kinds {
        let guest = try HonestGuest(
          takes == .all ? features.union(guestAll) : features, transmit: 256,
          receive: length)
        _ = try fabric.add(guest, takes: takes)
        receivers.append(Receiver(guest: guest, takes: takes))
      }
      self.receivers = receivers
      uplink = try fabric.addUplink()
    }

    func run(_ input: inout Input) {
      let layout = input.byte()
      sender.pair.layout = .init(pieces: 1 + Int(layout & 15), indirect: layout & 16 != 0)
      let header = VirtioDriver.NetHeader(input.take(10).padded(to: 10), length: 10)
      let length = min(65_560, Int(input.number(UInt16.self)))
      var frame = Array(input.rest().prefix(length))
      while frame.count < length { frame.append(UInt8(truncatingIfNeeded: frame.count &* 7)) }
      // To everybody, from a station: what becomes of other addresses is no matter here.
      if layout & 32 == 0, frame.count >= 12 {
        frame.replaceSubrange(
          0..<12, with: [UInt8](repeating: 0xFF, count: 6) + [2, 0, 0, 0, 0, 1])
      }
      fabric.plane.flush(port: port)
      sender.send(frame, header: header)
      _ = fabric.plane.turn()
      _ = sender.receive()
      let sent = Sent(header: header, frame: frame)
      for receiver in receivers {
        sent.judge(receiver.guest.receive(), takes: receiver.takes)
        let offences = receiver.guest.takeOffences()
        // What the sender did wrong is passed on.
        hold(!sent.isRight || offences.isEmpty, "\(offences)")
      }
      sent.judge(uplink.receive(), takes: .tcp)
      fabric.holdBalance()
    }
  }
}

extension [UInt8] {
  fileprivate func padded(to count: Int) -> [UInt8] {
    self + [UInt8](repeating: 0, count: Swift.max(0, count - self.count))
  }
}
