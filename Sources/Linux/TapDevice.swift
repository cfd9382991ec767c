internal import CLinux
internal import Glibc
internal import SystemPackage

/// A TAP interface with one descriptor a queue, each frame behind a 12-byte virtio-net header.
public final class TapDevice: Sendable {
  /// Bytes before each frame: `struct virtio_net_hdr_mrg_rxbuf`.
  public static let headerSize = 12

  public let name: String
  public let queues: [OwnedFD]
  /// Whether the device was absent before; it goes with its last descriptor.
  public let made: Bool
  /// Whether the kernel cuts large UDP frames into datagrams (Linux 6.2 and later). TCP's it always does, and
  /// the checksums; it hands over its own frames likewise unfinished.
  public let segmentsDatagrams: Bool

  /// Attaches `queues` queues to the device `name`, making it if it is absent, and brings it up if it
  /// was made here.
  public init(name: String, queues count: Int, mtu: Int? = nil) throws(SystemError) {
    let existed = try SystemError.check(unsafe clx_link_exists(name), "look for \(name)") == 1
    var descriptors: [OwnedFD] = []
    var actual = [CChar](repeating: 0, count: 16)
    var segmentsDatagrams = true
    for _ in 0..<count {
      // SAFETY: fills at most the sixteen bytes of `actual`.
      let descriptor = unsafe clx_tap_open(name, count > 1 ? 1 : 0, &actual)
      if descriptor < 0 {
        throw TapDevice.explain(Errno(rawValue: -descriptor), name, queues: count, existed: existed)
      }
      descriptors.append(OwnedFD(taking: descriptor))
      let datagrams = try SystemError.check(
        clx_tap_configure(descriptor, CInt(TapDevice.headerSize)), "configure \(name)")
      if datagrams == 0 { segmentsDatagrams = false }
    }
    self.name = String(
      decoding: actual.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    self.queues = descriptors
    self.made = !existed
    self.segmentsDatagrams = segmentsDatagrams
    if let mtu { try TapDevice.setMTU(mtu, of: name) }
    if made { try SystemError.check(unsafe clx_link_set_up(name, 1), "bring \(name) up") }
  }

  /// Bytes that a new interface takes after the Ethernet header.
  public static let standardMTU = 1500

  public static func setMTU(_ mtu: Int, of name: String) throws(SystemError) {
    try SystemError.check(unsafe clx_link_set_mtu(name, CInt(mtu)), "set the MTU of \(name)")
  }

  /// Finds that an interface is there under the name which is no TAP, and so can't be opened as one. Where /sys shows
  /// other interfaces than this process has, nothing is found.
  public static func check(name: String) throws(SystemError) {
    guard try SystemError.check(unsafe clx_link_exists(name), "look for \(name)") == 1 else {
      return
    }
    let shown = "/sys/class/net/\(name)"
    guard PathAccess().isGranted(at: shown), !PathAccess().isGranted(at: "\(shown)/tun_flags")
    else { return }
    throw SystemError(
      "open the TAP device \(name) (an interface of that name is there, but it is no TAP)",
      errno: .invalidArgument)
  }

  private static func explain(
    _ errno: Errno, _ name: String, queues: Int, existed: Bool
  ) -> SystemError {
    let hint: String =
      switch errno {
      case .permissionDenied, .notPermitted: " (needs CAP_NET_ADMIN)"
      case .noSuchFileOrDirectory: " (no /dev/net/tun: load the module tun)"
      case .resourceBusy: " (in use by another process)"
      case .invalidArgument where existed:
        " (it exists, but not as a TAP with \(queues > 1 ? "several queues" : "one queue"))"
      default: ""
      }
    return SystemError("open the TAP device \(name)\(hint)", errno: errno)
  }
}
