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
  /// Why a device that was there and down could not be brought up.
  public let whyDown: SystemError?

  /// Attaches `queues` queues to the device `name`, making it if it is absent, and brings it up. One with several queues of
  /// which another process has some is left alone, as each of both would get some of the frames.
  public init(name: String, queues count: Int, mtu: Int? = nil) throws(SystemError) {
    let existed = try SystemError.check(unsafe clx_link_exists(name), "look for \(name)") == 1
    if existed { try TapDevice.refuseShared(name, beyond: 0) }
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
    self.name = TapDevice.text(actual)
    // Somebody may have attached at the same time.
    if count > 1 { try TapDevice.refuseShared(name, beyond: count) }
    self.queues = descriptors
    self.made = !existed
    self.segmentsDatagrams = segmentsDatagrams
    if let mtu { try TapDevice.setMTU(mtu, of: name) }
    var whyDown: SystemError?
    do throws(SystemError) {
      if !existed || (try? LinkState.named(name))?.isUp == false {
        try SystemError.check(unsafe clx_link_set_up(name, 1), "bring \(name) up")
      }
    } catch {
      if !existed { throw error }
      whyDown = error
    }
    self.whyDown = whyDown
  }

  /// Goes on with the queues that another process has attached.
  public init(taking queues: [OwnedFD], name: String, made: Bool, segmentsDatagrams: Bool) {
    self.queues = queues
    self.name = name
    self.made = made
    self.segmentsDatagrams = segmentsDatagrams
    whyDown = nil
  }

  /// Throws when processes have attached more queues to a device than `own`.
  private static func refuseShared(_ name: String, beyond own: Int) throws(SystemError) {
    // Where the kernel does not say, it is as it was before it could.
    guard let attached = (try? LinkState.named(name))?.attachedQueues, attached > own else {
      return
    }
    throw SystemError(
      "open the TAP device \(name) (another process has \(attached - own) of its queues, and would get a part of the frames)",
      errno: .resourceBusy)
  }

  private static func text(_ name: [CChar]) -> String {
    String(decoding: name.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
  }

  /// What has become of a device.
  public enum Presence: Sendable, Equatable {
    /// It is in this network namespace, by this name.
    case here(name: String, LinkState)
    /// It is in another network namespace, where little can be seen of it.
    case elsewhere(name: String, isUp: Bool)
    case gone
  }

  /// What has become of the device; `nil` when that can't be found out.
  public var presence: Presence? {
    guard let first = queues.first else { return nil }
    var name = [CChar](repeating: 0, count: 16)
    var address = [UInt8](repeating: 0, count: 6)
    // SAFETY: fills at most the arrays' bytes.
    let result = unsafe clx_tap_identity(first.raw, &name, &address)
    if result == -EBADFD { return .gone }
    if result < 0 { return nil }
    let present = TapDevice.text(name)
    do throws(SystemError) {
      if let link = try LinkState.named(present), link.address == address {
        return .here(name: present, link)
      }
      return .elsewhere(name: present, isUp: isUp)
    } catch {
      return nil
    }
  }

  /// Whether the device is up, in whatever network namespace.
  public var isUp: Bool { queues.first.map { clx_tap_is_up($0.raw) == 1 } ?? false }

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
