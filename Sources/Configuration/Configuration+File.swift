import ControlAPI
import Foundation
import Yams

/// From a file's bytes to the root of its YAML.
extension Configuration {
  /// No switch needs more, and a parser should not be asked for it.
  private static let sizeLimit = 1 << 20

  /// Reads the configuration file at `path`. `cpu` is the worker's when the file names none.
  public static func load(path: String, cpu: Int) throws(ConfigurationError) -> Configuration {
    func failure(_ message: String) -> ConfigurationError {
      ConfigurationError(file: path, problems: [.init(line: 0, column: 0, message: message)])
    }
    var isDirectory: ObjCBool = false
    // SAFETY: fills the local.
    if unsafe FileManager.default.fileExists(atPath: path, isDirectory: &isDirectory),
      isDirectory.boolValue
    {
      throw failure("this is a directory; name the file in it")
    }
    var data: Data
    do {
      let file = try FileHandle(forReadingFrom: URL(fileURLWithPath: path))
      // One more byte than may be there tells a file that is too long.
      data = try file.read(upToCount: sizeLimit + 1) ?? Data()
      try file.close()
    } catch let error as CocoaError where error.code == .fileReadNoSuchFile {
      throw failure("there is no such file")
    } catch let error as CocoaError where error.code == .fileReadNoPermission {
      throw failure("permission denied")
    } catch {
      throw failure("the file can't be read: \(error.localizedDescription)")
    }
    if data.count > sizeLimit { throw failure("the file is longer than 1 MiB") }
    // Editors of other systems begin a file with a mark that is no part of it.
    if data.starts(with: [0xEF, 0xBB, 0xBF]) { data = Data(data.dropFirst(3)) }
    if data.starts(with: [0xFF, 0xFE]) || data.starts(with: [0xFE, 0xFF]) {
      throw failure("the file is UTF-16; save it as UTF-8")
    }
    guard let text = String(validating: data, as: UTF8.self) else {
      throw ConfigurationError(file: path, problems: [notUTF8(data)])
    }
    return try parse(text, file: path, cpu: cpu)
  }

  /// Reads the text of a configuration file. `file` is for the messages.
  static func parse(
    _ text: String, file: String, cpu: Int
  ) throws(ConfigurationError) -> Configuration {
    var reader = ConfigurationReader()
    var configuration: Configuration?
    if let problem = alias(in: text) {
      reader.problems = [problem]
    } else {
      do {
        if let root = try Parser(yaml: text, encoding: .utf8).singleRoot() {
          configuration = reader.configuration(root, cpu: cpu)
        } else {
          let keys = ConfigurationReader.keys.joined(separator: ", ")
          reader.problems = [
            .init(line: 1, column: 1, message: "the file is empty; expected \(keys)")
          ]
        }
      } catch {
        reader.problems = [problem(error)]
      }
    }
    if let configuration, reader.problems.isEmpty { return configuration }
    throw ConfigurationError(
      file: file,
      problems: reader.problems.sorted { ($0.line, $0.column) < ($1.line, $1.column) })
  }

  private static func problem(_ error: any Error) -> ConfigurationError.Problem {
    func problem(_ mark: Mark, _ message: String) -> ConfigurationError.Problem {
      .init(line: mark.line, column: mark.column, message: message)
    }
    switch error as? YamlError {
    case .scanner(_, let text, let mark, _), .parser(_, let text, let mark, _):
      return problem(mark, "this is not YAML: \(text)")
    case .composer(let context, let text, let mark, _):
      let more = context.map { "\($0.text), " } ?? ""
      return problem(mark, more + text)
    case .duplicatedKeysInMapping(let keys, let context):
      return problem(context.mark, "duplicate key \(keys.map(quoted).joined(separator: ", "))")
    case .reader(let text, _, _, _):
      return .init(line: 0, column: 0, message: "this is not YAML: \(text)")
    default:
      return .init(line: 0, column: 0, message: "this is not YAML: \(error)")
    }
  }

  /// The first alias (`*name` of an earlier `&name`). Ten lines of them can stand for a billion values, and
  /// what stands elsewhere can't be pointed at in a message, so they are refused before they are expanded.
  private static func alias(in text: String) -> ConfigurationError.Problem? {
    var anchors: Set<String> = []
    for (index, line) in text.split(separator: "\n", omittingEmptySubsequences: false).enumerated()
    {
      let scalars = Array(line.unicodeScalars)
      var before: Unicode.Scalar = " "
      for (column, scalar) in scalars.enumerated() {
        let first = " \t[{,:?-!".unicodeScalars.contains(before)
        before = scalar
        // Where no value can begin, these are ordinary characters; in a comment they are nothing.
        guard first else { continue }
        if scalar == "#" { break }
        guard scalar == "&" || scalar == "*" else { continue }
        let tail = scalars[(column + 1)...].prefix {
          $0.properties.isAlphabetic || $0.isNameOfAnchor
        }
        let name = String(String.UnicodeScalarView(tail))
        if scalar == "&" {
          anchors.insert(name)
        } else if anchors.contains(name) {
          return .init(
            line: index + 1, column: column + 1,
            message: "aliases such as *\(name) are not taken here; write the value out")
        }
      }
    }
    return nil
  }

  private static func notUTF8(_ data: Data) -> ConfigurationError.Problem {
    var line = 1
    for piece in data.split(separator: 0x0a, omittingEmptySubsequences: false) {
      if String(validating: piece, as: UTF8.self) == nil { break }
      line += 1
    }
    return .init(line: line, column: 1, message: "this line is not UTF-8")
  }
}

extension Unicode.Scalar {
  fileprivate var isNameOfAnchor: Bool {
    ("0"..."9").contains(self) || self == "-" || self == "_"
  }
}
