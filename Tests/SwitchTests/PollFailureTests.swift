import ControlAPI
import Foundation
import Linux
import Switch
import Testing
import VirtioDriver

/// A kernel that can't wait for anybody. poll(2) fails where it is given more descriptors than a process may have
/// (EINVAL), as it does without memory.
extension SwitchTests {
  @Suite struct PollFailureTests {
    private static func limitDescriptors(to count: UInt) {
      var limit = rlimit()
      getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
      limit.rlim_cur = count
      setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
    }

    @Test("A port that could not wait says so, and serves again when it can")
    func port() async {
      await #expect(processExitsWith: .success) {
        let bench = try Bench()
        let guest = try bench.attach("g0")
        PollFailureTests.limitDescriptors(to: 0)
        // Its thread learns of the end of the session, and then waits for the next front-end.
        guest.disconnect()
        let isSaid = eventually {
          bench.fabric.port(named: "g0")?.lastError?.contains("poll") == true
        }
        guard isSaid else { exit(1) }
        PollFailureTests.limitDescriptors(to: 1024)
        let fresh = try bench.guest("g0")
        try fresh.announce(.station(0))
        let isLearned = eventually { bench.place(of: .station(0)) == "g0" }
        guard isLearned else { exit(2) }
        fresh.disconnect()
      }
    }

    @Test("What can't wait can be ended all the same")
    func end() async {
      await #expect(processExitsWith: .success) {
        let bench = try Bench()
        let guest = try bench.attach("g0")
        PollFailureTests.limitDescriptors(to: 0)
        guest.disconnect()
        let isSaid = eventually {
          bench.fabric.port(named: "g0")?.lastError?.contains("poll") == true
        }
        guard isSaid else { exit(1) }
        bench.fabric.stop()
      }
    }
  }
}
