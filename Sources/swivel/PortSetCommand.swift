public import ArgumentParser
public import ControlAPI
internal import ControlClient
internal import Foundation

struct PortSetCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "set", abstract: "Change a port; its guest does not notice.",
    discussion: """
      What is not named stays. "default" instead of a value goes back to what holds where nothing is said. The \
      configuration file does not change: the next reload makes its ports what it says again.
      """)

  @Argument(help: "The port's name.") var name: String
  @Option(help: ArgumentHelp("Largest payload, 68 to 65535.", valueName: "bytes"))
  var mtu: SettingArgument<Int>?
  @Option(
    help: ArgumentHelp(
      "Most addresses learned on it; what was learned is forgotten.", valueName: "n"))
  var macs: SettingArgument<Int>?
  @Option(help: "up, or down: no frame passes; the guest is not told.")
  var link: SettingArgument<PortLink>?
  @Option(help: ArgumentHelp("User of the socket, by name or number.", valueName: "user"))
  var owner: SettingArgument<String>?
  @Option(help: "Group of the socket, by name or number.")
  var group: SettingArgument<String>?
  @Option(help: ArgumentHelp("Permission bits of the socket, as in 0660.", valueName: "octal"))
  var permissions: SettingArgument<String>?
  @Option(help: ArgumentHelp("Most memory the guest may share, as in 64G.", valueName: "size"))
  var memory: SettingArgument<String>?
  @Option(help: ArgumentHelp("Most regions of it, 1 to 512.", valueName: "n"))
  var regions: SettingArgument<Int>?
  @OptionGroup var common: CommonOptions

  var change: PortChange {
    PortChange(
      mtu: mtu?.setting, macs: macs?.setting, link: link?.setting, owner: owner?.setting,
      group: group?.setting,
      permissions: permissions?.setting, memory: memory?.setting, regions: regions?.setting)
  }

  func validate() throws {
    if change.isEmpty {
      throw ValidationError(
        "say what is to change: \(PortChange.keys.map { "--\($0)" }.joined(separator: ", "))")
    }
  }

  func run() throws {
    let reply = try common.client.patch("/v1/ports/\(ControlClient.segment(name))", change)
    if common.json {
      Output.write(String(decoding: reply, as: UTF8.self))
    } else {
      Output.write("\(name) is changed\n")
    }
  }
}

/// `swivel port up` and `swivel port down`.
protocol PortLinkCommand: ParsableCommand {
  static var link: PortLink { get }
  var name: String { get }
  var common: CommonOptions { get }
}

extension PortLinkCommand {
  func run() throws {
    let reply = try common.client.patch(
      "/v1/ports/\(ControlClient.segment(name))", PortChange(link: .value(Self.link)))
    if common.json {
      Output.write(String(decoding: reply, as: UTF8.self))
    } else {
      let port = try ControlClient.decode(Port.self, from: reply)
      Output.write("\(port.name) is \(port.state.rawValue): \(port.explanation)\n")
    }
  }
}

struct PortUpCommand: PortLinkCommand {
  static let configuration = CommandConfiguration(
    commandName: "up", abstract: "Let a port carry frames again.")
  static let link = PortLink.up

  @Argument(help: "The port's name.") var name: String
  @OptionGroup var common: CommonOptions
}

struct PortDownCommand: PortLinkCommand {
  static let configuration = CommandConfiguration(
    commandName: "down", abstract: "Let no frame pass a port; its guest is not told.")
  static let link = PortLink.down

  @Argument(help: "The port's name.") var name: String
  @OptionGroup var common: CommonOptions
}

extension PortLink: ExpressibleByArgument {}

/// A value, or the word `default`.
struct SettingArgument<Value: ExpressibleByArgument & Encodable & Sendable & Equatable>:
  ExpressibleByArgument, Sendable
{
  var setting: PortChange.Setting<Value>

  init?(argument: String) {
    if argument == "default" {
      setting = .standard
    } else if let value = Value(argument: argument) {
      setting = .value(value)
    } else {
      return nil
    }
  }
}
