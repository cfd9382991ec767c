internal import Foundation
internal import SystemPackage

/// Why a part of the archive, or all of it, can't be had.
struct SupportError: Error, Equatable, CustomStringConvertible {
  let description: String
  init(_ description: String) { self.description = description }
}

/// An archive in the making: a folder of files, one a part. A part that can't be had becomes a line of `contents.txt`,
/// never a failure of the others: a report is written where something is wrong already.
struct SupportArchive {
  private let name: String
  /// This user's alone, for what is in it may not be everybody's to read.
  private let folder: String
  private var present: [String] = []
  private var missing: [(part: String, why: String)] = []

  /// - Parameter name: of the folder that the archive holds.
  init(name: String) throws(SupportError) {
    self.name = name
    folder = FileManager.default.temporaryDirectory.path + "/swivel-" + UUID().uuidString
    do {
      for path in [folder, "\(folder)/\(name)"] {
        try FileManager.default.createDirectory(
          atPath: path, withIntermediateDirectories: false, attributes: [.posixPermissions: 0o700])
      }
    } catch {
      throw SupportError("the folder \(folder) can't be made: \(error.localizedDescription)")
    }
  }

  func remove() { try? FileManager.default.removeItem(atPath: folder) }

  /// Adds a part, or what it is missing for.
  mutating func add(_ part: String, _ content: () throws -> Data) {
    do {
      let data = try content()
      let path = "\(folder)/\(name)/\(part)"
      try FileManager.default.createDirectory(
        atPath: (path as NSString).deletingLastPathComponent, withIntermediateDirectories: true)
      try data.write(to: URL(fileURLWithPath: path))
      present.append(part)
    } catch let error as CocoaError {
      // Which file it is about is not in every one of Foundation's sentences.
      let path = error.filePath.map { "\($0): " } ?? ""
      missing.append((part, path + error.localizedDescription))
    } catch {
      missing.append((part, "\(error)"))
    }
  }

  /// Adds the same as text.
  mutating func add(_ part: String, text: () throws -> String) {
    add(part) { Data(try text().utf8) }
  }

  /// Packs what there is into a file that is not there yet, for its owner to read. Returns the parts that are missing.
  mutating func write(to file: String) throws(SupportError) -> [String] {
    let contents = contents
    add("contents.txt", text: { contents })
    let output: FileDescriptor
    do {
      output = try FileDescriptor.open(
        FilePath(file), .writeOnly, options: [.create, .exclusiveCreate, .closeOnExec],
        permissions: .ownerReadWrite)
    } catch {
      throw SupportError("\(file) can't be made: \(error)")
    }
    defer { try? output.close() }
    do {
      // No names of users, for they mean nothing elsewhere.
      try HostCommand(
        "tar", "--create", "--gzip", "--numeric-owner", "--directory", folder, name
      ).run(into: FileHandle(fileDescriptor: output.rawValue, closeOnDealloc: false))
    } catch {
      try? FileManager.default.removeItem(atPath: file)
      throw SupportError("the archive can't be packed: \(error)")
    }
    return missing.map(\.part)
  }

  private var contents: String {
    var text = "What is here:\n"
    for part in present { text += "  \(part)\n" }
    if missing.isEmpty { return text }
    text += "\nWhat is not here, and why:\n"
    for (part, why) in missing {
      let line = why.split(whereSeparator: \.isNewline).joined(separator: "; ")
      text += "  \(part): \(line)\n"
    }
    return text
  }
}
