internal import ArgumentParser
internal import ControlAPI
internal import ControlClient
internal import Foundation

struct PortCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "port", abstract: "Explain, add, change or remove a port.",
    subcommands: [
      PortShowCommand.self, PortAddCommand.self, PortSetCommand.self, PortUpCommand.self,
      PortDownCommand.self,
      PortRemoveCommand.self,
    ])
}

struct PortShowCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "show", abstract: "Explain a port in full.")

  @Argument(help: "The port's name.") var name: String
  @OptionGroup var common: CommonOptions

  func run() throws {
    try common.show(
      "/v1/ports/\(ControlClient.segment(name))", as: Port.self, PortDescription.text)
  }
}

struct PortAddCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "add", abstract: "Add a port.",
    usage: """
      swivel port add NAME --vhost-user PATH [--mode MODE] [--queues N] [--owner USER] \
      [--group GROUP] [--permissions OCTAL] [--memory SIZE] [--regions N] [--offloads WORDS] \
      [--mtu BYTES] [--macs N] [--link LINK]
      swivel port add NAME --tap DEVICE [--queues N] [--mtu BYTES] [--macs N] [--link LINK]
      """)

  @Argument(help: "The port's name: 1 to 64 characters of A-Z a-z 0-9 . _ -") var name: String

  @Option(help: ArgumentHelp("The vhost-user socket of a guest.", valueName: "path"))
  var vhostUser: String?
  @Option(help: ArgumentHelp("The host's interface; made if absent.", valueName: "device"))
  var tap: String?
  @Option(
    help: "server: swivel listens; client: the front-end (QEMU) does. Default: server.",
    transform: PortAddCommand.mode)
  var mode: SocketMode?
  @Option(help: ArgumentHelp("Queue pairs, 1 to 16. Default: 1.", valueName: "n"))
  var queues: Int?
  @Option(help: ArgumentHelp("User of the socket, by name or number.", valueName: "user"))
  var owner: String?
  @Option(help: "Group of the socket, by name or number.")
  var group: String?
  @Option(help: ArgumentHelp("Permission bits of the socket, as in 0660.", valueName: "octal"))
  var permissions: String?
  @Option(
    help: ArgumentHelp(
      "Most memory the guest may share, as in 64G. Default: the daemon's.", valueName: "size"))
  var memory: String?
  @Option(
    help: ArgumentHelp(
      "Most regions of it, 1 to 512. Default: the daemon's.", valueName: "n"))
  var regions: Int?
  @Option(
    help: ArgumentHelp(
      "Offloads offered: all, none, host (the guest gets complete frames), or a list: csum,host-tso4. Default: all.",
      valueName: "words"))
  var offloads: String?
  @Option(help: ArgumentHelp("Largest payload, 68 to 65535.", valueName: "bytes"))
  var mtu: Int?
  @Option(
    help: ArgumentHelp(
      "Most addresses learned on it. Default: the daemon's (vhost-user), no limit (TAP).",
      valueName: "n"))
  var macs: Int?
  @Option(help: "up, or down: no frame passes. Default: up.")
  var link: PortLink?
  @OptionGroup var common: CommonOptions

  private static func mode(_ text: String) throws -> SocketMode {
    guard let mode = SocketMode(rawValue: text) else {
      throw ValidationError("it must be server or client")
    }
    return mode
  }

  func validate() throws {
    do {
      try request().validate()
    } catch let error as ServiceError {
      throw ValidationError(error.message)
    }
  }

  func request() throws -> PortRequest {
    var request = PortRequest(name: name, mtu: mtu, macs: macs, link: link)
    if let vhostUser {
      request.vhostUser = VhostUserRequest(
        path: vhostUser, mode: mode, queues: queues, owner: owner, group: group,
        permissions: permissions, memory: memory, regions: regions,
        offloads: offloads?.split(separator: ",", omittingEmptySubsequences: false)
          .map(String.init))
    }
    if let tap {
      let alien = [
        ("--mode", mode?.rawValue), ("--owner", owner), ("--group", group),
        ("--permissions", permissions), ("--memory", memory),
        ("--regions", regions.map(String.init)), ("--offloads", offloads),
      ].first { $0.1 != nil }
      if let alien { throw ValidationError("\(alien.0) is for --vhost-user, not for --tap") }
      request.tap = TapRequest(device: tap, queues: queues)
    }
    if vhostUser == nil && tap == nil {
      throw ValidationError("give --vhost-user PATH or --tap DEVICE")
    }
    return request
  }

  func run() throws {
    let reply = try common.client.post("/v1/ports", try request())
    if common.json {
      Output.write(String(decoding: reply, as: UTF8.self))
    } else {
      let port = try ControlClient.decode(Port.self, from: reply)
      Output.write("\(port.name) is \(port.state.rawValue): \(port.explanation)\n")
    }
  }
}

struct PortRemoveCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "remove", abstract: "Remove a port; its guest loses its link.")

  @Argument(help: "The port's name.") var name: String
  @OptionGroup var common: CommonOptions

  func run() throws {
    try common.client.delete("/v1/ports/\(ControlClient.segment(name))")
    if !common.json { Output.write("\(name) is removed\n") }
  }
}
