internal import ControlAPI
internal import Linux

extension VhostUserRequest: PortMaker {
  func check() throws {
    guard mode != .client else { return }
    try UnixListener.check(path: path, owner: owner, group: group)
  }

  func makePort(_ request: PortRequest, in parent: Switch, aside: Bool) throws -> any SwitchPort {
    try VhostPort(request, self, in: parent, aside: aside)
  }

  func takePort(
    _ handed: HandedPort, _ descriptors: HandedDescriptors, in parent: Switch
  ) throws -> any SwitchPort {
    let port = try VhostPort(
      handed.request, self, in: parent, aside: false,
      listener: try handed.listener?.listener(descriptors))
    do {
      try port.take(handed, descriptors)
    } catch {
      port.stop()
      throw error
    }
    return port
  }

  var canBePrepared: Bool { true }

  func spelledOut(_ configuration: Switch.Configuration) -> any Attachment {
    var whole = self
    whole.path = Directory.place(path)
    whole.mode = mode ?? .server
    whole.queues = queues ?? 1
    whole.memory = "\(memory.flatMap(memorySize) ?? configuration.memoryPerPort)"
    whole.regions = regions ?? configuration.regionsPerPort
    // What stands for the same is the same. What is wrong stays as it is written.
    if case .success(let names) = OffloadName.names(offloads ?? ["all"]) {
      whole.offloads = names.isEmpty ? ["none"] : names.map(\.rawValue)
    }
    if whole.mode == .server {
      let own = Identity.current
      whole.owner = Self.number(owner, own.user) { try? Identity.user(named: $0) }
      whole.group = Self.number(group, own.group) { try? Identity.group(named: $0) }
      whole.permissions = String(bits, radix: 8)
    }
    return whole
  }

  /// The number of a user or group; what nobody knows stays as it is written.
  private static func number(
    _ name: String?, _ own: UInt32, _ find: (String) -> UInt32?
  ) -> String {
    guard let name else { return "\(own)" }
    return find(name).map(String.init) ?? name
  }

  var foundation: any Attachment {
    var foundation = self
    (foundation.owner, foundation.group, foundation.permissions) = (nil, nil, nil)
    (foundation.memory, foundation.regions) = (nil, nil)
    return foundation
  }

  func standardMACs(_ configuration: Switch.Configuration) -> Int? { configuration.macsPerPort }

  /// Permission bits of the socket.
  var bits: UInt32 { permissions.flatMap(permissionBits) ?? 0o660 }
}
