import Control
import ControlAPI
import Yams

/// Walks the file's YAML and builds the configuration, noting everything that is not as it should be.
struct ConfigurationReader {
  static let keys = [
    "control", "workers", "ports", "mac-table", "guest-memory", "state", "security",
  ]

  var problems: [ConfigurationError.Problem] = []

  mutating func note(_ mark: Mark?, _ message: String) {
    problems.append(.init(line: mark?.line ?? 1, column: mark?.column ?? 1, message: message))
  }

  mutating func configuration(_ root: Node, cpu: Int) -> Configuration {
    var configuration = Configuration(workers: .init(cpus: [cpu]))
    guard let top = mapping(root, "the configuration", keys: ConfigurationReader.keys) else {
      return configuration
    }
    if let control = section(top, "control", ConfigurationReader.controlKeys) {
      configuration.control = listener(control, standard: defaultControlSocket)
      configuration.reader = reader(control, beside: configuration.control)
    }
    if let workers = section(top, "workers", ["cpus", "poll", "rebalance"]) {
      if let cpus = workers["cpus"] { configuration.workers.cpus = self.cpus(cpus) }
      configuration.workers.poll = choice(workers, "poll") ?? .adaptive
      configuration.workers.rebalance = choice(workers, "rebalance") ?? .off
    }
    if let table = section(top, "mac-table", ["entries", "age", "per-port", "loops"]) {
      // Up to 16 Mi addresses: the table takes 16 bytes for each.
      if let entries = integer(table, "entries", in: 16...(1 << 24)) {
        configuration.macTable.entries = entries
      }
      if let age = table["age"], let seconds = duration(age, "mac-table.age") {
        configuration.macTable.age = seconds
      }
      if let most = integer(table, "per-port", in: 1...(1 << 24)) {
        configuration.macTable.perPort = most
      }
      configuration.macTable.loops = choice(table, "loops") ?? .name
    }
    if let memory = section(top, "guest-memory", ["per-port", "regions", "disks"]) {
      configuration.guestMemory = guestMemory(memory)
    }
    if let state = string(top, "state") { configuration.state = place(state, top["state"]?.mark) }
    if let security = section(top, "security", ConfigurationReader.securityKeys) {
      configuration.security = self.security(security)
    }
    if let ports = top["ports"], !isNull(ports) {
      configuration.ports = self.ports(ports, of: configuration)
    }
    return configuration
  }

  private mutating func section(
    _ top: YAMLMapping, _ key: String, _ keys: [String]
  ) -> YAMLMapping? {
    // A section of which everything is commented out says nothing.
    guard let node = top[key], !isNull(node) else { return nil }
    return mapping(node, key, keys: keys)
  }

  private static let socketKeys = ["socket", "owner", "group", "permissions"]
  private static let controlKeys = socketKeys + ["read-only"]

  /// The second control socket, for those who may look and change nothing.
  private mutating func reader(
    _ control: YAMLMapping, beside first: ControlSocket
  ) -> ControlSocket? {
    guard let node = control["read-only"], !isNull(node),
      let section = mapping(node, "control.read-only", keys: ConfigurationReader.socketKeys)
    else { return nil }
    _ = required(section, "socket")
    let reader = listener(section, standard: "")
    if plainPath(reader.path) == plainPath(first.path) {
      note(
        section["socket"]?.mark, "control.read-only.socket must be another one than control.socket")
    }
    return reader
  }

  private mutating func listener(_ section: YAMLMapping, standard: String) -> ControlSocket {
    var socket = ControlSocket(path: standard)
    if let path = string(section, "socket") {
      socket.path = path
      if let wrong = socketPathFault(path) {
        note(section["socket"]?.mark, "\(section.place).socket \(wrong)")
      }
    }
    socket.owner = string(section, "owner")
    socket.group = string(section, "group")
    socket.permissions = string(section, "permissions")
    for (key, value) in [("owner", socket.owner), ("group", socket.group)] where value == "" {
      note(section[key]?.mark, "\(section.place).\(key) must be a name or a number")
    }
    if let permissions = socket.permissions, permissionBits(permissions) == nil {
      note(
        section["permissions"]?.mark,
        "\(section.place).permissions must be octal, as in '0660', not \(quoted(permissions))")
    }
    return socket
  }

  private mutating func place(_ state: String, _ mark: Mark?) -> Configuration.State {
    if state == "off" { return .off }
    if !state.hasPrefix("/") || state.hasSuffix("/") || state.utf8.contains(0) {
      note(mark, "state must be the absolute path of a file, or off, not \(quoted(state))")
    }
    return .file(state)
  }

  private mutating func guestMemory(_ section: YAMLMapping) -> Configuration.GuestMemory {
    var memory = Configuration.GuestMemory()
    if let text = string(section, "per-port") {
      if let size = memorySize(text) {
        memory.perPort = size
      } else {
        note(
          section["per-port"]?.mark,
          "guest-memory.per-port must be a size from 1M to 64T, as in 64G, not \(quoted(text))")
      }
    }
    if let regions = integer(section, "regions", in: regionLimits) {
      memory.regions = regions
    }
    memory.onDisks = onOrOff(section, "disks") ?? false
    return memory
  }

  /// CPUs by number (`2`) and range (`2-5`), in a list or one alone.
  private mutating func cpus(_ node: Node) -> [Int] {
    let list: [Node]
    switch node {
    case .sequence(let elements): list = Array(elements)
    case .scalar where !isNull(node): list = [node]
    default:
      note(
        node.mark,
        "workers.cpus must be a list of CPU numbers and ranges, as in [0, 2-5], not \(described(node))"
      )
      return []
    }
    if list.isEmpty { note(node.mark, "workers.cpus must name one CPU at least") }
    var cpus: [Int] = []
    for element in list {
      for cpu in range(element) {
        if cpus.contains(cpu) {
          note(element.mark, "CPU \(cpu) is in workers.cpus twice")
        } else {
          cpus.append(cpu)
        }
      }
    }
    return cpus
  }

  private mutating func range(_ node: Node) -> [Int] {
    let ends = (node.scalar?.string ?? "").split(separator: "-", omittingEmptySubsequences: false)
    guard ends.count == 2, !ends[0].isEmpty else {
      return integer(node, "a CPU's number", in: 0...1023).map { [$0] } ?? []
    }
    if let first = Int(ends[0]), let last = Int(ends[1]), "\(first)-\(last)" == node.scalar?.string,
      (0...last).contains(first), last <= 1023
    {
      return Array(first...last)
    }
    note(node.mark, "a range of CPUs must be as in 2-5, of 0 to 1023, not \(described(node))")
    return []
  }

  /// Seconds of `300s`, `5m` or `1h`; from a second to a week.
  private mutating func duration(_ node: Node, _ place: String) -> Int? {
    let units: [Character: Int] = ["s": 1, "m": 60, "h": 3600]
    let text = node.scalar?.string ?? ""
    if let unit = text.last.flatMap({ units[$0] }), let count = Int(text.dropLast()),
      text.first?.isNumber == true, (1...604_800).contains(count),
      (1...604_800).contains(count * unit)
    {
      return count * unit
    }
    note(
      node.mark,
      "\(place) must be a time from 1s to 168h, as in 300s, 5m or 1h, not \(described(node))")
    return nil
  }

  private mutating func ports(_ node: Node, of configuration: Configuration) -> [PortRequest] {
    var ports: [PortRequest] = []
    // What only one port may have, by what it is, and where it is: the second one is told of the first.
    var taken: [String: String] = [:]
    for socket in configuration.controlSockets {
      taken["socket path \(quoted(plainPath(socket.path)))"] = "the control socket"
    }
    guard let list = sequence(node, "ports", of: "ports") else { return [] }
    for element in list {
      guard let fields = mapping(element, "the port", keys: PortRequest.keys),
        let port = port(fields)
      else { continue }
      let unique =
        [("name \(quoted(port.name))", fields.mark(["name"]))]
        + port.claims.map { ($0.description, fields.mark($0.keys)) }
      for (what, mark) in unique {
        if let first = taken[what] {
          note(mark, "the \(what) is taken: \(first) has it")
        } else {
          taken[what] = "the port in line \(mark?.line ?? 0)"
        }
      }
      ports.append(port)
    }
    return ports
  }

  private mutating func port(_ fields: YAMLMapping) -> PortRequest? {
    let before = problems.count
    var port = PortRequest(
      name: required(fields, "name") ?? "", mtu: integer(fields, "mtu", in: nil),
      macs: integer(fields, "macs", in: nil), link: choice(fields, "link"))
    for kind in PortKind.allCases {
      let type = kind.attachment
      guard let node = fields[kind.rawValue],
        let mapping = mapping(node, kind.rawValue, keys: type.keys)
      else { continue }
      var reader = YAMLFields(reader: self, mapping: mapping)
      let attachment = type.init(from: &reader)
      self = reader.reader
      port.attach(attachment)
    }
    // The rules are about values; a port with a wrong key or type has not all of them.
    if problems.count > before { return nil }
    for fault in port.faults { note(fields.mark(fault.keys), fault.message) }
    return port
  }
}
