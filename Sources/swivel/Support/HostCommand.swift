internal import Foundation

/// A program of this machine, from the folders that only root writes to: the report is often written by root.
struct HostCommand {
  private let name: String
  private let arguments: [String]

  init(_ name: String, _ arguments: String...) {
    self.name = name
    self.arguments = arguments
  }

  /// What it prints; with nothing printed and a failure, that failure.
  func output() throws(SupportError) -> Data {
    let path = FileManager.default.temporaryDirectory.path + "/swivel-" + UUID().uuidString
    // A file, for a pipe that nobody empties would hold up the program.
    guard
      FileManager.default.createFile(
        atPath: path, contents: nil, attributes: [.posixPermissions: 0o600]),
      let handle = FileHandle(forUpdatingAtPath: path)
    else { throw SupportError("\(path) can't be made") }
    defer { try? FileManager.default.removeItem(atPath: path) }
    func written() -> Data {
      try? handle.seek(toOffset: 0)
      return (try? handle.readToEnd()) ?? Data()
    }
    do {
      try run(into: handle)
    } catch {
      let data = written()
      if data.isEmpty { throw error }
      return data + Data("\n(\(error))\n".utf8)
    }
    return written()
  }

  /// Runs it with its output going there, for twenty seconds at most.
  func run(into output: FileHandle) throws(SupportError) {
    let folders = ["/usr/bin", "/usr/sbin", "/bin", "/sbin"]
    let paths = name.hasPrefix("/") ? [name] : folders.map { "\($0)/\(name)" }
    guard let path = paths.first(where: FileManager.default.isExecutableFile) else {
      throw SupportError("there is no \(name) here")
    }
    let process = Process()
    process.executableURL = URL(fileURLWithPath: path)
    process.arguments = arguments
    process.environment = ["LC_ALL": "C.UTF-8", "PATH": folders.joined(separator: ":")]
    process.standardInput = FileHandle.nullDevice
    process.standardOutput = output
    let errors = Pipe()
    process.standardError = errors
    let ended = DispatchSemaphore(value: 0)
    process.terminationHandler = { _ in ended.signal() }
    do {
      try process.run()
    } catch {
      throw SupportError("\(name) can't be started: \(error.localizedDescription)")
    }
    if ended.wait(timeout: .now() + 20) == .timedOut {
      kill(process.processIdentifier, SIGKILL)
      throw SupportError("\(name) has not ended within 20 seconds")
    }
    guard process.terminationStatus != 0 else { return }
    let said = String(
      decoding: errors.fileHandleForReading.availableData.prefix(1000), as: UTF8.self)
    let why = said.split(whereSeparator: \.isNewline).joined(separator: "; ")
    let status = process.terminationStatus
    throw SupportError("\(name) ended with \(status)" + (why.isEmpty ? "" : ": \(why)"))
  }
}
