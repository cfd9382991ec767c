import CLinux
import Glibc
import Linux
import VirtioDriver

/// What stands in for a TAP queue: a datagram socket, which takes a frame a write, virtio-net header first, too.
final class Uplink {
  /// The data plane's end.
  let device: OwnedFD
  private let kernel: OwnedFD
  private var buffer = [UInt8](repeating: 0, count: 70_000)

  init() throws {
    var both: [CInt] = [-1, -1]
    let kind = CInt(SOCK_DGRAM.rawValue | SOCK_NONBLOCK.rawValue | SOCK_CLOEXEC.rawValue)
    try SystemError.check(socketpair(AF_UNIX, kind, 0, &both), "socketpair")
    device = OwnedFD(taking: both[0])
    kernel = OwnedFD(taking: both[1])
  }

  /// Everything that was written; a few frames, for which the socket has room.
  func receive() -> [QueuePair.Received] {
    var all: [QueuePair.Received] = []
    while true {
      let count = recv(kernel.raw, &buffer, buffer.count, 0)
      if count < 0 { return all }
      hold(count >= 12, "\(count) bytes to the uplink")
      let bytes = Array(buffer.prefix(count))
      all.append(
        QueuePair.Received(
          header: NetHeader(bytes, length: 12), frame: Array(bytes.dropFirst(12)), buffers: 1))
    }
  }

  /// As `receive`, without their headers.
  func receiveFrames() -> [[UInt8]] { receive().map(\.frame) }
}
