import Glibc

/// A folder of a test's own, removed at the end.
final class Scratch {
  let path: String

  init() {
    var template = Array("/tmp/swivel-linux-XXXXXX".utf8CString)
    path = String(cString: mkdtemp(&template)!)
  }

  deinit {
    _ = Command.run("rm", "-rf", path)
  }

  func file(_ name: String) -> String { "\(path)/\(name)" }
}

enum Command {
  /// Runs a program of the path; returns its exit status.
  static func run(_ words: String...) -> Int32 {
    var pid = pid_t()
    var arguments: [UnsafeMutablePointer<CChar>?] = words.map { strdup($0) }
    arguments.append(nil)
    defer { for argument in arguments { free(argument) } }
    guard posix_spawnp(&pid, words[0], nil, nil, arguments, environ) == 0 else { return -1 }
    var status: Int32 = 0
    waitpid(pid, &status, 0)
    return (status >> 8) & 0xFF
  }
}

func exists(_ path: String) -> Bool { access(path, F_OK) == 0 }
