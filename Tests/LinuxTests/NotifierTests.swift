import CLinux
import Glibc
import Linux
import Testing

/// Eventfds whose other holders mean no good.
@Suite struct NotifierTests {
  /// Full, and blocking: a write(2) to it does not return.
  private func trap() throws -> EventFD {
    let event = try EventFD()
    var full: UInt64 = .max - 1
    #expect(write(event.descriptor.raw, &full, 8) == 8)
    #expect(fcntl(event.descriptor.raw, F_SETFL, 0) == 0)
    return event
  }

  @Test("A full eventfd that blocks keeps nobody waiting, and loses nothing (HP-08)")
  func full() throws {
    let notifier = try Notifier()
    #expect(notifier.lack == nil, "the kernel has asynchronous I/O")
    let trap = try trap()
    let good = try EventFD()
    // It would wait here.
    notifier.signal([trap.descriptor, good.descriptor, trap.descriptor])
    Notifier.signal(trap.descriptor)
    #expect(good.drain() == 1)
    #expect(trap.drain() >= .max - 1)
  }

  @Test(
    "More than go to the kernel at once, over and over, each told once", arguments: [true, false])
  func many(_ asynchronous: Bool) throws {
    let notifier = try Notifier(asynchronous: asynchronous)
    #expect((notifier.lack == nil) == asynchronous)
    let events = try (0..<(2 * Int(CLX_NOTIFIER_BATCH) + 5)).map { _ in try EventFD() }
    for _ in 0..<1000 { notifier.signal(events.map(\.descriptor)) }
    for event in events { #expect(event.drain() == 1000) }
    notifier.signal([])
  }

  @Test("A descriptor that is no eventfd costs the others nothing")
  func stranger() throws {
    let notifier = try Notifier()
    let good = try (0..<3).map { _ in try EventFD() }
    let file = OwnedFD(taking: try SystemError.check(clx_memfd("file", 0), "memfd"))
    let closed = OwnedFD(taking: 987_654)
    notifier.signal([
      file, good[0].descriptor, closed, closed, good[1].descriptor, good[2].descriptor, file,
    ])
    for event in good { #expect(event.drain() == 1) }
  }
}
