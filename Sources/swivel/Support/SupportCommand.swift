internal import ArgumentParser
internal import ControlAPI
internal import ControlClient
internal import Foundation

struct SupportCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "support",
    abstract: "Write one archive with what a bug report needs.",
    discussion: """
      It holds the configuration file, health, ports, workers and all counters of the daemon, its log's last lines, \
      versions, and what this machine has of memory, hugepages, CPUs and nodes. Nothing of guests' frames, and no \
      command line but the daemon's. What can't be had is named in it with the reason, in contents.txt. Look through it \
      before you send it: names of ports, paths and interfaces are yours. As root it has most.
      """)

  @Option(
    help: ArgumentHelp(
      "The file to write, which must not be there yet.",
      discussion: "The default is named by the time, in this directory.", valueName: "file"),
    completion: .file())
  var output: String?
  @Option(
    help: ArgumentHelp(
      "The configuration file, where the daemon can't be asked for its own.", valueName: "file"),
    completion: .file())
  var config = "/etc/swivel/swivel.yaml"
  @Option(
    help: ArgumentHelp(
      "The control socket of the daemon.",
      discussion: "SWIVEL_SOCKET in the environment sets the default.", valueName: "path"))
  var socket = ProcessInfo.processInfo.environment["SWIVEL_SOCKET"] ?? defaultControlSocket

  func run() throws {
    let stamp = Date.now.formatted(
      .iso8601.dateSeparator(.omitted).timeSeparator(.omitted))
    let name = "swivel-support-\(stamp)"
    let file = output ?? "\(name).tar.gz"
    do throws(SupportError) {
      var archive = try SupportArchive(name: name)
      defer { archive.remove() }
      archive.addDaemon(ControlClient(path: socket), configuration: config)
      archive.addMachine()
      let missing = try archive.write(to: file)
      Output.write("\(file)\n")
      if !missing.isEmpty {
        Output.write("without \(missing.joined(separator: ", ")): contents.txt in it says why\n")
      }
    } catch {
      throw ClientError("\(error)")
    }
  }
}
