internal import CLinux
internal import Glibc
public import Linux

/// Has an eventfd be watched by as many as descriptors allow: copies of it, each in a number of epoll sets. Whoever signals it
/// then goes over all of them, within one system call.
///
/// A front-end that holds the eventfd by which its driver is interrupted can do so, and set the price of each interrupt.
public final class EventWatchers {
  private let copies: [OwnedFD]
  private let sets: [OwnedFD]
  /// How many there are.
  public var count: Int { copies.count * sets.count }

  /// - Parameters:
  ///   - copies: descriptors of the eventfd.
  ///   - sets: epoll sets, each of which watches every one of them.
  public init(of event: OwnedFD, copies: Int, sets: Int) throws(SystemError) {
    var made: [OwnedFD] = []
    for _ in 0..<copies {
      made.append(OwnedFD(taking: try SystemError.check(dup(event.raw), "copy a descriptor")))
    }
    self.copies = made
    made = []
    for _ in 0..<sets {
      let set = OwnedFD(taking: try SystemError.check(clx_epoll_create(), "make an epoll set"))
      for (place, copy) in self.copies.enumerated() {
        try SystemError.check(
          clx_epoll_add(set.raw, copy.raw, 1, UInt64(place)), "watch an eventfd")
      }
      made.append(set)
    }
    self.sets = made
  }
}
