import Control
import ControlAPI
import Yams

/// Walks the file's YAML and builds the configuration, noting everything that is not as it should be.
struct ConfigurationReader {
  static let keys = [
    "control", "workers", "ports", "mac-table", "guest-memory", "security",
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
    if let control = section(top, "control", ["socket", "owner", "group", "permissions"]) {
      configuration.control = self.control(control)
    }
    if let workers = section(top, "workers", ["cpus", "poll"]) {
      if let cpus = workers["cpus"] { configuration.workers.cpus = self.cpus(cpus) }
      configuration.workers.poll = choice(workers, "poll") ?? .adaptive
    }
    if let table = section(top, "mac-table", ["entries", "age", "per-port"]) {
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
    }
    if let memory = section(top, "guest-memory", ["per-port", "regions", "disks"]) {
      configuration.guestMemory = guestMemory(memory)
    }
    if let security = section(top, "security", ConfigurationReader.securityKeys) {
      configuration.security = self.security(security)
    }
    if let ports = top["ports"] {
      configuration.ports = self.ports(ports, control: configuration.control.path)
    }
    return configuration
  }

  private mutating func section(
    _ top: YAMLMapping, _ key: String, _ keys: [String]
  ) -> YAMLMapping? {
    guard let node = top[key] else { return nil }
    return mapping(node, key, keys: keys)
  }

  private mutating func control(_ section: YAMLMapping) -> ControlSocket {
    var socket = ControlSocket(path: defaultControlSocket)
    if let path = string(section, "socket") {
      socket.path = path
      if let wrong = socketPathFault(path) {
        note(section["socket"]?.mark, "control.socket \(wrong)")
      }
    }
    socket.owner = string(section, "owner")
    socket.group = string(section, "group")
    socket.permissions = string(section, "permissions")
    if let permissions = socket.permissions, permissionBits(permissions) == nil {
      note(
        section["permissions"]?.mark,
        "control.permissions must be octal, as in '0660', not \(quoted(permissions))")
    }
    return socket
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

  private mutating func cpus(_ node: Node) -> [Int] {
    guard let list = sequence(node, "workers.cpus", of: "CPU numbers, as in [0, 1]") else {
      return []
    }
    if list.isEmpty { note(node.mark, "workers.cpus must name one CPU at least") }
    var cpus: [Int] = []
    for element in list {
      guard let cpu = integer(element, "a CPU's number", in: 0...1023) else { continue }
      if cpus.contains(cpu) {
        note(element.mark, "CPU \(cpu) is in workers.cpus twice")
      } else {
        cpus.append(cpu)
      }
    }
    return cpus
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

  private mutating func ports(_ node: Node, control: String) -> [PortRequest] {
    var ports: [PortRequest] = []
    // What only one port may have, by what it is, and where it is: the second one is told of the first.
    var taken = ["socket path \(quoted(control))": "the control socket"]
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
      macs: integer(fields, "macs", in: nil))
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
