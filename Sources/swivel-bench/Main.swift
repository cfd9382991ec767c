import ArgumentParser
import ControlAPI
import Foundation
import Glibc
import Linux
import VirtioDriver

/// The command line.
struct SwivelBench: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "swivel-bench",
    abstract: "Measure a virtual switch: packets per second between vhost-user ports.",
    discussion: """
      Plays the guests on the sockets given, whose rings it fills and empties from one CPU. Without \
      --socket it starts a swiveld of its own, found beside this program or in PATH, and ends it afterwards.

      Sizes are those of Ethernet frames without their check sequence. Rates are sums over all ports.
      """,
    version: swivelVersion)

  @OptionGroup var options: Options

  func run() throws {
    StandardStreams.fill()
    let plan = try options.plan()
    if plan.mode == .generator { return try show(plan, plan.sizes.map(GeneratorAlone.measure)) }
    if plan.mode == .memcpy {
      if let cpu = plan.cpu { try Affinity.confine(to: [cpu]) }
      return try show(plan, plan.sizes.map { try GeneratorAlone.copy($0, plan) })
    }
    try IdleGuests.makeRoom(for: plan.idlePorts)
    let cleaner = try Cleaner()
    defer { cleaner.clean() }
    let paths: [String]
    var control = options.control
    if options.socket.isEmpty {
      let daemon = try OwnDaemon(plan, cleaner)
      paths = daemon.sockets
      control = daemon.control
    } else {
      paths = options.socket
    }
    let runner = Runner(
      bed: try Bed(paths: paths, plan: plan), plan: plan, progress: Progress(),
      ledger: control.map(Ledger.init))
    let results = try plan.sizes.map(runner.run)
    try show(plan, results)
    if !results.allSatisfy(\.isClean) { throw ExitCode(1) }
  }

  private func show(_ plan: Plan, _ results: [Outcome]) throws {
    let report = Report(plan, ownDaemon: options.socket.isEmpty, results: results)
    if options.json {
      try Output.write(try report.json)
    } else {
      try Output.write(Table.of(results) + report.remarks)
    }
    if let path = options.svg {
      do {
        try Picture(report).svg.write(toFile: path, atomically: true, encoding: .utf8)
      } catch {
        throw BenchError("\(path): \(error.localizedDescription)")
      }
    }
  }
}

@main struct Main {
  static func main() {
    do {
      var command = try SwivelBench.parseAsRoot()
      try command.run()
    } catch let error as BenchError {
      Output.complain("\(error)")
      exit(1)
    } catch let error as SystemError {
      Output.complain("\(error)")
      exit(1)
    } catch {
      SwivelBench.exit(withError: error)
    }
  }
}
