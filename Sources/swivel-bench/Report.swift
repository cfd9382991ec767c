import ArgumentParser
import ControlAPI
import Foundation
import VirtioDriver

/// A failure with a message for the user.
struct BenchError: Error, CustomStringConvertible {
  let description: String
  init(_ description: String) { self.description = description }

  init(_ error: any Error) {
    description =
      switch error as? FrontEndError {
      case .closed: "the switch has closed the connection"
      case .timeout(nil): "the switch does not answer"
      case .timeout(let request?): "the switch does not answer request \(request.rawValue)"
      case .refused(let request, let code):
        "the switch refused request \(request.rawValue): \(code)"
      case .badReply(let request): "the reply to request \(request.rawValue) is not one"
      case .notOffered(let what): "the switch does not offer \(what)"
      case .memory: "too little guest memory"
      case .system(let error): "\(error)"
      case nil: "\(error)"
      }
  }
}

/// All that one call of the program found.
struct Report: Codable, Sendable, Equatable {
  /// What was asked for.
  struct Setting: Codable, Sendable, Equatable {
    var pattern: Pattern
    var ports: Int
    var idlePorts: Int
    /// A pair with one small frame at a time is beside them.
    var mixed: Bool
    var queues: Int
    var macs: Int
    var ring: Ring
    var ringSize: Int
    var inOrder: Bool
    var mergeable: Bool
    var indirect: Bool
    /// Of a switch that this program started; `nil`: sockets were given.
    var workerCPUs: [Int]?
    var generatorCPU: Int?
  }

  var version = swivelVersion
  var setting: Setting
  var results: [Outcome]

  init(_ plan: Plan, ownDaemon: Bool, results: [Outcome]) {
    setting = Setting(
      pattern: plan.pattern, ports: plan.ports, idlePorts: plan.idlePorts,
      mixed: plan.mixed,
      queues: plan.queues, macs: plan.macs, ring: plan.ring, ringSize: plan.ringSize,
      inOrder: plan.inOrder, mergeable: plan.mergeable,
      indirect: plan.indirect, workerCPUs: ownDaemon ? plan.workerCPUs : nil,
      generatorCPU: plan.cpu)
    self.results = results
  }

  var json: String {
    get throws {
      let encoder = JSONEncoder()
      encoder.outputFormatting = [.sortedKeys, .prettyPrinted, .withoutEscapingSlashes]
      return String(decoding: try encoder.encode(self), as: UTF8.self) + "\n"
    }
  }

  /// What a reader of the table should know besides.
  var remarks: String {
    var lines: [String] = []
    let own = results.filter { $0.limit == .generator }.map(\.size)
    if !own.isEmpty {
      lines.append(
        "This program, not the switch, is the limit at \(own.joined(separator: ", ")): the switch can do more."
      )
    }
    let late = results.filter {
      $0.mode != .zeroLoss && $0.offeredRate != nil && $0.limit != .rate
    }.map(\.size)
    if !late.isEmpty {
      lines.append("The rate could not be offered at \(late.joined(separator: ", ")).")
    }
    if let cpu = setting.generatorCPU, setting.workerCPUs?.contains(cpu) == true {
      lines.append("This program shares CPU \(cpu) with a worker: the rates are not the switch's.")
    }
    for row in results where row.drops?.isEmpty == false {
      let drops = (row.drops ?? [:]).sorted { $0.key < $1.key }
      lines.append(
        "Dropped by the switch at \(row.size): "
          + drops.map { "\(Figure.count($0.value)) \($0.key)" }.joined(separator: ", ") + ".")
    }
    if let least = results.compactMap(\.cpuShare).min(), least < 0.98 {
      lines.append(
        "This program had its CPU only \(Figure.percent(least)) of the time: others use it, and the figures are too low."
      )
    }
    if !results.allSatisfy(\.isClean) {
      lines.append("Frames arrived that were corrupt or out of order.")
    }
    return lines.map { $0 + "\n" }.joined()
  }
}

enum Output {
  /// Writes to standard output at once. When nobody reads it any more it throws what ends the program quietly, but not
  /// before a daemon that it has started is gone.
  static func write(_ text: String) throws {
    do {
      try FileHandle.standardOutput.write(contentsOf: Data(text.utf8))
    } catch {
      throw ExitCode(1)
    }
  }

  static func complain(_ text: String) {
    try? FileHandle.standardError.write(contentsOf: Data("swivel-bench: \(text)\n".utf8))
  }
}
