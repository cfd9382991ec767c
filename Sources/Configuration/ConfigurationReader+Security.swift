import ControlAPI
import Yams

/// The section `security`.
extension ConfigurationReader {
  static let securityKeys = ["user", "capabilities", "seccomp", "landlock", "directories"]

  mutating func security(_ section: YAMLMapping) -> Configuration.Security {
    var security = Configuration.Security()
    switch string(section, "user") {
    case nil: break
    case "off": security.user = .off
    case "": note(section["user"]?.mark, "security.user must be a user's name or number, or off")
    case let name?: security.user = .named(name)
    }
    if let node = section["capabilities"] { security.capabilities = capabilities(node) }
    security.seccomp = onOrOff(section, "seccomp") ?? true
    security.landlock = onOrOff(section, "landlock") ?? true
    if let node = section["directories"] { security.directories = directories(node) }
    return security
  }

  private mutating func capabilities(_ node: Node) -> Configuration.Security.Capabilities {
    switch node.scalar?.string {
    case "auto": return .automatic
    case "off": return .off
    default: break
    }
    let names = Configuration.Security.Capabilities.names
    guard case .sequence(let list) = node else {
      note(
        node.mark,
        "security.capabilities must be auto, off or a list of names, not \(described(node))")
      return .automatic
    }
    var only: [String] = []
    for element in list {
      guard let name = element.scalar?.string, names.contains(name) else {
        note(
          element.mark,
          "a capability must be one of \(names.joined(separator: ", ")), not \(described(element))")
        continue
      }
      only.append(name)
    }
    return .only(only)
  }

  private mutating func directories(_ node: Node) -> [String] {
    guard let list = sequence(node, "security.directories", of: "directories") else { return [] }
    var directories: [String] = []
    for element in list {
      guard let path = element.scalar?.string, path.hasPrefix("/"), !path.utf8.contains(0) else {
        note(element.mark, "a directory must be an absolute path, not \(described(element))")
        continue
      }
      directories.append(path)
    }
    return directories
  }

  /// A switch; `true` and `false` are what some tools make of the words.
  mutating func onOrOff(_ section: YAMLMapping, _ key: String) -> Bool? {
    guard let node = section[key] else { return nil }
    switch node.scalar?.string {
    case "on", "true": return true
    case "off", "false": return false
    default:
      note(node.mark, "\(section.place).\(key) must be on or off, not \(described(node))")
      return nil
    }
  }
}
