import Foundation
import Linux
import Testing

/// Lines to whoever may not read them.
@Suite struct LineStreamTests {
  private func pipe() -> (reading: Int32, writing: Int32) {
    var ends: [Int32] = [0, 0]
    #expect(Glibc.pipe(&ends) == 0)
    return (ends[0], ends[1])
  }

  /// What is there; the descriptor must not wait.
  private func drain(_ descriptor: Int32) -> String {
    _ = fcntl(descriptor, F_SETFL, O_NONBLOCK)
    var all: [UInt8] = []
    var bytes = [UInt8](repeating: 0, count: 65536)
    while case let count = read(descriptor, &bytes, bytes.count), count > 0 {
      all += bytes.prefix(count)
    }
    return String(decoding: all, as: UTF8.self)
  }

  private func socketPair() -> (reading: Int32, writing: Int32) {
    var ends: [Int32] = [0, 0]
    #expect(socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0, &ends) == 0)
    return (ends[0], ends[1])
  }

  @Test(
    "Nobody waits for a reader; what was lost is counted, and said once there is room",
    arguments: [false, true])
  func nobodyWaits(isSocket: Bool) throws {
    let ends = isSocket ? socketPair() : pipe()
    let stream = try LineStream(to: ends.writing) { "LOST \($0)" }
    let line = String(repeating: "x", count: 999)
    // Far more than a pipe or a socket holds. Would this wait, the test would have no end.
    for number in 0..<2000 { stream.write("\(number) \(line)") }
    let lost = stream.dropped
    #expect(lost > 1000 && lost < 2000)
    let first = drain(ends.reading).split(separator: "\n")
    stream.write("after")
    let second = drain(ends.reading).split(separator: "\n")
    // A socket may take a part of a line: then the rest of it comes first.
    #expect(second.suffix(2) == ["LOST \(lost)", "after"])
    let whole = first.filter { $0.hasSuffix(line) }
    #expect(whole.count + (isSocket ? 1 : 0) >= 2000 - Int(lost))
    stream.write("again")
    #expect(drain(ends.reading) == "again\n")
    close(ends.reading)
    close(ends.writing)
  }

  @Test("Others who have the descriptor go on as before")
  func othersWait() throws {
    let ends = pipe()
    let stream = try LineStream(to: ends.writing) { "\($0)" }
    #expect(fcntl(ends.writing, F_GETFL) & O_NONBLOCK == 0)
    stream.write(String(repeating: "y", count: 10_000))
    #expect(drain(ends.reading).utf8.count == 4096)
    close(ends.reading)
    // Whoever reads it may be gone.
    let previous = signal(SIGPIPE, SIG_IGN)
    stream.write("nobody")
    signal(SIGPIPE, previous)
    #expect(stream.dropped == 1)
    close(ends.writing)
  }
}
