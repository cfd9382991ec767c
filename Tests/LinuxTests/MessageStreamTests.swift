import Foundation
import SystemPackage
import Testing

@testable import Linux

@Suite struct MessageStreamTests {
  private func pair() throws -> (MessageStream, MessageStream) {
    let (one, other) = try UnixSocket.pair()
    return (MessageStream(one), MessageStream(other))
  }

  private var soon: ContinuousClock.Instant { .now + .seconds(20) }

  @Test(
    "A message of any length arrives whole, with any number of descriptors in their order",
    arguments: [(0, 0), (1, 1), (5, 32), (5, 33), (700_000, 100)])
  func whole(length: Int, count: Int) throws {
    let (one, other) = try pair()
    let events = try (0..<count).map { _ in try EventFD() }
    let bytes = (0..<length).map { UInt8(truncatingIfNeeded: $0 &* 7) }
    let deadline = soon
    let thread = try Thread(name: "sender") {
      try? one.send(bytes, events.map(\.descriptor), until: deadline)
    }
    let (got, descriptors) = try other.receive(until: deadline)
    thread.join()
    #expect(got == bytes)
    #expect(descriptors.count == count)
    for (index, event) in events.enumerated() {
      event.signal()
      let ready = try Poller.wait([(descriptors[index].raw, .read)], milliseconds: 0)
      #expect(ready == [true], "descriptor \(index)")
    }
  }

  @Test("What is no message is refused, as is one that promises more than may be kept")
  func strange() throws {
    for head in [
      [UInt8](repeating: 65, count: 16),
      Array("swivel_m".utf8) + [0xFF, 0xFF, 0xFF, 0xFF, 0, 0, 0, 0],
      Array("swivel_m".utf8) + [0, 0, 0, 0, 0xFF, 0xFF, 0xFF, 0xFF],
    ] {
      let (one, other) = try pair()
      _ = try head.withUnsafeBytes { try UnixSocket.send(one.socket, $0) }
      let error = #expect(throws: SystemError.self) { try other.receive(until: soon) }
      #expect(error?.errno == .badMessage)
    }
  }

  @Test("Fewer descriptors than promised are refused")
  func fewer() throws {
    let (one, other) = try pair()
    let head = Array("swivel_m".utf8) + [0, 0, 0, 0, 2, 0, 0, 0, 1]
    _ = try head.withUnsafeBytes { try UnixSocket.send(one.socket, $0) }
    let error = #expect(throws: SystemError.self) { try other.receive(until: soon) }
    #expect(error?.errno == .badMessage)
  }

  @Test("Whoever waits hears of the other's end, and waits no longer than it said")
  func ends() throws {
    let (one, other) = try pair()
    let late = #expect(throws: SystemError.self) {
      try one.receive(until: .now + .milliseconds(50))
    }
    #expect(late?.errno == .timedOut)
    // The other end closes with its last reference.
    do { _ = consume other }
    let gone = #expect(throws: SystemError.self) { try one.receive(until: soon) }
    #expect(gone?.errno == .connectionReset)
  }
}
