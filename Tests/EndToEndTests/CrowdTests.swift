import Foundation
import Glibc
import Linux
import Testing

@testable import Hostile

extension EndToEnd {
  /// The figures by which `scripts/crowd` compares two builds of the daemon; the crowd itself is that script's.
  @Suite struct CrowdFigures {
    @Test("Percentiles of gaps are those of the sorted lengths, to within a thirty-second part")
    func percentiles() {
      var lengths: [Int] = []
      var gaps = Gaps()
      var state: UInt64 = 1
      for _ in 0..<10_000 {
        state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
        // Some of each size, from nanoseconds to seconds.
        let length = Int(state >> 33) >> Int(state >> 59)
        lengths.append(length)
        gaps.note(nanoseconds: length)
      }
      lengths.sort()
      for share in [0.01, 0.5, 0.9, 0.99, 0.999, 1] {
        let exact = lengths[Int((Double(lengths.count) * share).rounded(.up)) - 1]
        let found = gaps.percentile(share)
        #expect(found >= exact && found <= exact + exact / 32 + 1, "\(share): \(found), \(exact)")
      }
      #expect(gaps.count == 10_000 && gaps.longest == lengths.last)
    }

    @Test("Gaps of two directions together are those of both")
    func sum() {
      var (one, other) = (Gaps(), Gaps())
      for length in 1...20 { one.note(nanoseconds: length) }
      for length in 81...100 { other.note(nanoseconds: length) }
      let both = one + other
      #expect(both.count == 40 && both.longest == 100)
      #expect(both.percentile(0.5) == 20)
      #expect(both.percentile(0.75) >= 90 && both.percentile(0.75) <= 93)
      #expect(Gaps().percentile(0.99) == 0)
    }

    @Test("The time of a process's threads is that of those with the name alone")
    func threadTime() throws {
      #expect(ThreadTime(of: getpid(), named: "busy/")?.running == 0)
      let finish = try EventFD()
      let busy = try Linux.Thread(name: "busy/1") {
        var time = timespec()
        repeat {
          // SAFETY: fills the local.
          _ = unsafe clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time)
        } while time.tv_sec == 0 && time.tv_nsec < 50_000_000
        // It is to be there while it is asked about.
        while finish.drain() == 0 { _ = try? Poller.wait([], milliseconds: 1) }
      }
      defer { busy.join() }
      defer { finish.signal() }
      var seconds = 0.0
      let deadline = ContinuousClock.now + .seconds(60)
      while seconds < 0.05, ContinuousClock.now < deadline {
        seconds = try #require(ThreadTime(of: getpid(), named: "busy/")).running
      }
      #expect(seconds >= 0.05)
      #expect(ThreadTime(of: getpid(), named: "idle/")?.running == 0)
    }
  }
}
