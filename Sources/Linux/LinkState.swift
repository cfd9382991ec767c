internal import CLinux
internal import Glibc

/// A network interface of this process's network namespace, as rtnetlink(7) shows it.
public struct LinkState: Sendable, Equatable {
  /// Somebody has brought it up (IFF_UP).
  public var isUp: Bool
  /// There is something at its other end (IFF_LOWER_UP).
  public var hasCarrier: Bool
  /// Bytes after the Ethernet header.
  public var mtu: Int
  /// Its hardware address: six bytes.
  public var address: [UInt8]
  /// Queues that processes have attached to a TAP with several; `nil`: it is none, or the kernel does not say.
  public var attachedQueues: Int?

  /// The interface of that name; `nil` when there is none.
  public static func named(_ name: String) throws(SystemError) -> LinkState? {
    var link = clx_link()
    // SAFETY: fills the local.
    let result = try SystemError.check(
      unsafe clx_link_query(name, &link), "ask for the interface \(name)")
    if result == 0 { return nil }
    let address = link.address
    return LinkState(
      isUp: link.flags & UInt32(IFF_UP) != 0,
      hasCarrier: link.flags & LinkState.lowerUp != 0, mtu: Int(link.mtu),
      address: [address.0, address.1, address.2, address.3, address.4, address.5],
      attachedQueues: link.queues < 0 ? nil : Int(link.queues))
  }

  /// IFF_LOWER_UP, which the C library's header lacks.
  private static let lowerUp: UInt32 = 1 << 16
}

/// Tells that an interface of this network namespace has changed, come or gone: not which.
public final class LinkWatch: Sendable {
  /// Ready when there is something new.
  public let descriptor: OwnedFD

  public init() throws(SystemError) {
    descriptor = OwnedFD(taking: try SystemError.check(clx_link_watch(), "watch the interfaces"))
  }

  /// To be called before looking at the interfaces, so that what changes meanwhile is told of anew.
  public func drain() { clx_link_drain(descriptor.raw) }
}
