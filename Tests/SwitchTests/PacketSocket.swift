import Foundation
import Glibc
import VirtioDriver

/// The host's side of an interface: a packet socket whose frames come and go behind a virtio-net header
/// (packet(7), PACKET_VNET_HDR), so that the kernel is asked, and tells, what of a frame is yet to be done.
final class PacketSocket {
  struct Failed: Error {
    var what: String
    var errno: Int32
  }

  /// `struct virtio_net_hdr`, without `num_buffers`.
  private static let headerLength = 10

  private let descriptor: CInt

  /// Binds to the interface, which must be up.
  init(interface: String) throws {
    let everything = UInt16(0x0003).bigEndian  // ETH_P_ALL
    let index = try String(contentsOfFile: "/sys/class/net/\(interface)/ifindex", encoding: .utf8)
    // SOCK_NONBLOCK.
    descriptor = socket(AF_PACKET, CInt(SOCK_RAW.rawValue) | 0x800, CInt(everything))
    if descriptor < 0 { throw Failed(what: "socket", errno: errno) }
    var yes: CInt = 1
    // SOL_PACKET, PACKET_VNET_HDR.
    if setsockopt(descriptor, 263, 15, &yes, socklen_t(MemoryLayout<CInt>.size)) != 0 {
      throw Failed(what: "PACKET_VNET_HDR", errno: errno)
    }
    // Room for many of the longest frames: SO_RCVBUFFORCE.
    var room: CInt = 8 << 20
    setsockopt(descriptor, SOL_SOCKET, 33, &room, socklen_t(MemoryLayout<CInt>.size))
    // struct sockaddr_ll.
    var address = [UInt8](repeating: 0, count: 20)
    address.withUnsafeMutableBytes { bytes in
      bytes.storeBytes(of: UInt16(AF_PACKET), as: UInt16.self)
      bytes.storeBytes(of: everything, toByteOffset: 2, as: UInt16.self)
      bytes.storeBytes(
        of: Int32(index.filter(\.isNumber)) ?? 0, toByteOffset: 4, as: Int32.self)
    }
    let bound = address.withUnsafeBytes { bytes in
      bytes.withMemoryRebound(to: sockaddr.self) { bind(descriptor, $0.baseAddress!, 20) }
    }
    if bound != 0 { throw Failed(what: "bind", errno: errno) }
  }

  deinit { close(descriptor) }

  /// Sends a frame out of the interface, which is to say: into the switch. Returns whether the kernel took it.
  func send(_ frame: [UInt8], _ header: NetHeader = NetHeader()) -> Bool {
    let bytes = header.bytes(length: Self.headerLength) + frame
    return Glibc.send(descriptor, bytes, bytes.count, 0) == bytes.count
  }

  /// The next frame that has come through the interface, in either direction, but for those sent here.
  func receive() -> QueuePair.Received? {
    var bytes = [UInt8](repeating: 0, count: 70_000)
    let count = recv(descriptor, &bytes, bytes.count, 0)
    if count < Self.headerLength { return nil }
    return .init(
      header: NetHeader(bytes, length: Self.headerLength),
      frame: Array(bytes[Self.headerLength..<count]), buffers: 1)
  }
}
