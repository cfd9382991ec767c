import Glibc
import Linux
import SystemPackage
import Testing

/// Users and groups, as the C library knows them.
@Suite struct IdentityTests {
  /// Whether a file may be put over another one for one thread alone.
  private static let canMount = Command.run("unshare", "--mount", "true") == 0

  /// Puts a file of `text` in the place of `path`, for the calling thread.
  private static func replace(_ path: String, by text: String) {
    typealias Unshare = @convention(c) (CInt) -> CInt
    let unshare = unsafeBitCast(dlsym(nil, "unshare"), to: Unshare.self)
    // CLONE_NEWNS; MS_REC and MS_PRIVATE: nobody else is to see it; MS_BIND.
    guard unshare(0x2_0000) == 0, mount("none", "/", nil, 0x4000 | 0x4_0000, nil) == 0 else {
      exit(8)
    }
    let file = "/tmp/swivel-identity-\(getpid())"
    let descriptor = open(file, O_CREAT | O_WRONLY | O_TRUNC, 0o644)
    guard write(descriptor, text, text.utf8.count) == text.utf8.count else { exit(9) }
    close(descriptor)
    let isThere = mount(file, path, nil, 0x1000, nil) == 0
    unlink(file)
    guard isThere else { exit(10) }
  }

  @Test(
    "A group is found however many members it has",
    .enabled(if: IdentityTests.canMount, "needs a mount namespace"))
  func largeGroup() async {
    await #expect(processExitsWith: .success) {
      let members = (0..<20_000).map { "member\($0)" }.joined(separator: ",")
      IdentityTests.replace(
        "/etc/group", by: "root:x:0:\nlarge:x:4711:\(members)\nsmall:x:4712:member7\n")
      guard try Identity.group(named: "large") == 4711 else { exit(1) }
      guard try Identity.group(named: "small") == 4712 else { exit(2) }
      do throws(SystemError) {
        _ = try Identity.group(named: "nobodys")
        exit(3)
      } catch {
        guard error.errno == .noSuchFileOrDirectory else { exit(4) }
      }
    }
  }

  @Test(
    "A user is found however much is said of him, with his groups, by name and by number",
    .enabled(if: IdentityTests.canMount, "needs a mount namespace"))
  func longUser() async {
    await #expect(processExitsWith: .success) {
      let comment = String(repeating: "x", count: 100_000)
      IdentityTests.replace(
        "/etc/passwd", by: "root:x:0:0::/:/bin/sh\nlong:x:4711:4712:\(comment):/:/bin/sh\n")
      IdentityTests.replace("/etc/group", by: "root:x:0:\ntwo:x:4712:\nmore:x:4713:long\n")
      for name in ["long", "4711"] {
        let identity = try Identity(named: name)
        guard identity.user == 4711, identity.group == 4712 else { exit(1) }
        guard identity.groups == [4712, 4713] else { exit(2) }
      }
      // A number that nobody has is its own group.
      guard try Identity(named: "4999").group == 4999 else { exit(3) }
    }
  }

  @Test("Too few descriptors are not the want of a user")
  func scarcity() async {
    await #expect(processExitsWith: .success) {
      var limit = rlimit(rlim_cur: 0, rlim_max: 1024)
      setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
      do throws(SystemError) {
        _ = try Identity.group(named: "nobodys")
        exit(1)
      } catch {
        guard error.errno == .tooManyOpenFiles else { exit(2) }
      }
    }
  }
}
