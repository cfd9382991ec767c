import Control
import ControlAPI

@testable import Configuration

/// The configuration file's text.
///
/// What is held: every refusal names a line of the file and says something; what is accepted keeps the rules of a
/// port, names nothing twice, and, written down again, is read as the same.
enum ConfigurationTarget {
  static func run(_ input: inout Input) {
    guard let text = String(validating: input.rest(), as: UTF8.self) else { return }
    do throws(ConfigurationError) {
      let read = try Configuration.parse(text, file: "f", cpu: 1)
      judge(read)
      let again = try Configuration.parse(written(read), file: "again", cpu: 1)
      hold(
        read.ports == again.ports && read.control == again.control && read.workers == again.workers
          && read.macTable == again.macTable, "read \(read), then \(again)")
    } catch {
      hold(error.file == "f", "what was written down is refused: \(error)")
      judge(error, text)
    }
  }

  private static func judge(_ error: ConfigurationError, _ text: String) {
    hold(!error.problems.isEmpty, "a refusal without a reason")
    // What YAML takes for the end of a line: of the other characters some are such to Swift, too.
    let breaks = text.unicodeScalars.filter {
      "\n\r\u{85}\u{2028}\u{2029}".unicodeScalars.contains($0)
    }
    for problem in error.problems {
      hold(!problem.message.isEmpty, "no message")
      hold(
        (0...breaks.count + 2).contains(problem.line), "line \(problem.line): \(problem.message)")
      hold(problem.column >= 0, "column \(problem.column)")
      hold(problem.line > 0 || problem.message.hasPrefix("this is not YAML"), "\(problem)")
    }
  }

  private static func judge(_ configuration: Configuration) {
    let ports = configuration.ports
    for port in ports { hold(port.faults.isEmpty, "\(port.faults)") }
    let paths = [configuration.control.path] + ports.compactMap(\.vhostUser?.path)
    for names in [ports.map(\.name), paths, ports.compactMap(\.tap?.device)] {
      hold(Set(names).count == names.count, "something twice: \(names)")
    }
    let cpus = configuration.workers.cpus
    hold(!cpus.isEmpty && Set(cpus).count == cpus.count, "CPUs \(cpus)")
    hold((16...(1 << 24)).contains(configuration.macTable.entries), "\(configuration.macTable)")
    hold((1...(1 << 24)).contains(configuration.macTable.perPort), "\(configuration.macTable)")
    hold((1...604_800).contains(configuration.macTable.age), "\(configuration.macTable)")
  }

  // ---- Writing one down ----

  private static func written(_ configuration: Configuration) -> String {
    let control = configuration.control
    let ports = configuration.ports.map { port in
      mapping([
        ("name", text(port.name)), ("mtu", port.mtu.map(String.init)),
        ("macs", port.macs.map(String.init)),
        (
          "vhost-user",
          port.vhostUser.map { vhost in
            mapping([
              ("path", text(vhost.path)), ("mode", vhost.mode?.rawValue),
              ("queues", vhost.queues.map(String.init)), ("owner", vhost.owner.map(text)),
              ("group", vhost.group.map(text)), ("permissions", vhost.permissions.map(text)),
            ])
          }
        ),
        (
          "tap",
          port.tap.map { tap in
            mapping([("device", text(tap.device)), ("queues", tap.queues.map(String.init))])
          }
        ),
      ])
    }
    return mapping([
      (
        "control",
        mapping([
          ("socket", text(control.path)), ("owner", control.owner.map(text)),
          ("group", control.group.map(text)), ("permissions", control.permissions.map(text)),
        ])
      ),
      (
        "workers",
        mapping([
          ("cpus", "\(configuration.workers.cpus)"), ("poll", configuration.workers.poll.rawValue),
          ("rebalance", configuration.workers.rebalance.rawValue),
        ])
      ),
      (
        "mac-table",
        mapping([
          ("entries", "\(configuration.macTable.entries)"),
          ("age", "\(configuration.macTable.age)s"),
          ("per-port", "\(configuration.macTable.perPort)"),
          ("loops", configuration.macTable.loops.rawValue),
        ])
      ), ("ports", "[\(ports.joined(separator: ", "))]"),
    ])
  }

  private static func mapping(_ pairs: [(key: String, value: String?)]) -> String {
    let present = pairs.compactMap { pair in pair.value.map { "\(pair.key): \($0)" } }
    return "{ \(present.joined(separator: ", ")) }"
  }

  /// In double quotes, with everything escaped that is not ASCII.
  private static func text(_ value: String) -> String {
    let escaped = value.unicodeScalars.map { scalar in
      if (0x20..<0x7F).contains(scalar.value), scalar != "\"", scalar != "\\" {
        return String(scalar)
      }
      let digits = String(scalar.value, radix: 16)
      return "\\U" + String(repeating: "0", count: 8 - digits.count) + digits
    }
    return "\"\(escaped.joined())\""
  }
}
