internal import ControlAPI

/// The switch's figures in Prometheus' text format 0.0.4.
struct Metrics {
  static let contentType = "text/plain; version=0.0.4; charset=utf-8"

  private(set) var text = ""

  init(of service: any SwitchService) {
    write(service.stats())
    let ports = service.ports()
    writeStates(ports)
    writeQueues(ports)
    write(service.workers())
  }

  private typealias Label = (name: String, value: String)
  private typealias Sample = (labels: [Label], value: String)

  private mutating func write(_ stats: Stats) {
    family("swivel_info", "gauge", "Always 1; the label says which swivel it is.") {
      [([("version", stats.version)], "1")]
    }
    family("swivel_uptime_seconds", "gauge", "Seconds since the daemon started.") {
      [([], Metrics.number(stats.uptime))]
    }
    if let log = stats.log {
      family(
        "swivel_log_lines_dropped_total", "counter",
        "Lines of the log that were not written, as nobody read it."
      ) {
        [([], "\(log.droppedLines)")]
      }
    }
    let sums = [(QueueDirection.transmitq, stats.received), (.receiveq, stats.sent)]
    let counters: [(String, String, KeyPath<Counters, UInt64>)] = [
      (
        "frames", "Frames of all ports there are or have been, by direction as the guest sees it.",
        \.frames
      ),
      ("bytes", "Bytes of those frames.", \.bytes),
    ]
    for (name, help, path) in counters {
      family("swivel_\(name)_total", "counter", help) {
        sums.map { ([("direction", $0.0.rawValue)], "\($0.1[keyPath: path])") }
      }
    }
    family("swivel_replicas_total", "counter", "Copies beyond the first that floods made.") {
      [([], "\(stats.received.replicas)")]
    }
    family("swivel_drops_total", "counter", "Frames that were not delivered, by reason.") {
      sums.flatMap { direction, counters in
        Metrics.drops(counters, [("direction", direction.rawValue)])
      }
    }
    let table = stats.macTable
    family("swivel_mac_table_capacity", "gauge", "Addresses the MAC table has room for.") {
      [([], "\(table.capacity)")]
    }
    family("swivel_mac_table_entries", "gauge", "Addresses in the MAC table.") {
      [([], "\(table.entries)")]
    }
    let events = [
      ("learned", "Addresses learned.", table.learned),
      ("moved", "Addresses that changed their port.", table.moved),
      ("limited", "Addresses that went because their port had its limit.", table.limited),
      (
        "evicted", "Addresses that went, or were not learned, because the table had no room.",
        table.evicted
      ),
      (
        "deferred", "Frames whose source address was not looked at, as too many before were new.",
        table.deferred
      ),
      ("aged", "Addresses removed because they were silent for too long.", table.aged),
    ]
    for (name, help, value) in events {
      family("swivel_mac_table_\(name)_total", "counter", help) { [([], "\(value)")] }
    }
  }

  private mutating func writeStates(_ ports: [Port]) {
    family("swivel_port_state", "gauge", "1 for the state that the port is in, 0 for the others.") {
      ports.flatMap { port in
        PortState.allCases.map { state in
          (
            [("port", port.name), ("kind", port.kind.rawValue), ("state", state.rawValue)],
            port.state == state ? "1" : "0"
          )
        }
      }
    }
    family(
      "swivel_port_faults_total", "counter",
      "Rings that broke, and what the front-end did against the protocol, by name."
    ) {
      ports.flatMap { port in
        port.faults.sorted { $0.key < $1.key }.map { name, count in
          ([("port", port.name), ("fault", name)], "\(count)")
        }
      }
    }
    family("swivel_port_macs", "gauge", "Addresses learned on the port.") {
      ports.map { ([("port", $0.name)], "\($0.macs)") }
    }
    family("swivel_port_mac_limit", "gauge", "Most addresses of a port that has a limit.") {
      ports.compactMap { port in port.macLimit.map { ([("port", port.name)], "\($0)") } }
    }
    let counters: [(String, String, KeyPath<LearningCounters, UInt64>)] = [
      ("learned", "Addresses of the port that were not known.", \.learned),
      ("moved", "Addresses of the port that were known on another.", \.moved),
      ("limited", "Addresses of the port that went because it had its limit.", \.limited),
      ("evicted", "Addresses that went for the port's, or of it that found no room.", \.evicted),
      (
        "deferred", "Frames whose source address was not looked at, as too many before were new.",
        \.deferred
      ),
    ]
    for (name, help, path) in counters {
      family("swivel_port_macs_\(name)_total", "counter", help) {
        ports.map { ([("port", $0.name)], "\($0.learning[keyPath: path])") }
      }
    }
  }

  private mutating func writeQueues(_ ports: [Port]) {
    let queues = ports.flatMap { port in
      port.queues.map { queue -> (labels: [Label], queue: Queue) in
        let labels = [
          ("port", port.name), ("queue", "\(queue.index)"), ("direction", queue.direction.rawValue),
        ]
        return (labels, queue)
      }
    }
    family("swivel_queue_state", "gauge", "1 for the state that the queue is in, 0 for the others.")
    {
      queues.flatMap { labels, queue in
        QueueState.allCases.map { state in
          (labels + [("state", state.rawValue)], queue.state == state ? "1" : "0")
        }
      }
    }
    let counters: [(String, String, KeyPath<Counters, UInt64>)] = [
      ("frames", "transmitq: frames taken from the guest. receiveq: frames delivered.", \.frames),
      ("bytes", "Bytes of those frames, from Ethernet header to payload.", \.bytes),
      ("bursts", "Bursts that carried at least one frame.", \.bursts),
      ("notifications", "Interrupts sent to the guest.", \.notifications),
    ]
    for (name, help, path) in counters {
      family("swivel_queue_\(name)_total", "counter", help) {
        queues.map { ($0.labels, "\($0.queue.counters[keyPath: path])") }
      }
    }
    family("swivel_queue_replicas_total", "counter", "Copies beyond the first that floods made.") {
      queues.filter { $0.queue.direction == .transmitq }.map {
        ($0.labels, "\($0.queue.counters.replicas)")
      }
    }
    family("swivel_queue_drops_total", "counter", "Frames that were not delivered, by reason.") {
      queues.flatMap { Metrics.drops($0.queue.counters, $0.labels) }
    }
  }

  private mutating func write(_ workers: [Worker]) {
    func labels(_ worker: Worker) -> [Label] {
      [("worker", "\(worker.id)"), ("cpu", "\(worker.cpu)"), ("node", "\(worker.node)")]
    }
    family("swivel_worker_sleeping", "gauge", "1 when the worker sleeps, 0 when it polls.") {
      workers.map { (labels($0), $0.state == "sleeping" ? "1" : "0") }
    }
    let counters: [(String, String, KeyPath<Worker, UInt64>)] = [
      ("turns", "Turns of the worker's loop.", \.turns),
      ("busy_turns", "Turns that moved at least one frame.", \.busyTurns),
      ("sleeps", "Times the worker went to sleep for want of work.", \.sleeps),
    ]
    for (name, help, path) in counters {
      family("swivel_worker_\(name)_total", "counter", help) {
        workers.map { (labels($0), "\($0[keyPath: path])") }
      }
    }
  }

  private static func drops(_ counters: Counters, _ labels: [Label]) -> [Sample] {
    counters.drops.sorted { $0.key < $1.key }.map { reason, count in
      (labels + [("reason", reason)], "\(count)")
    }
  }

  /// Writes a metric's HELP and TYPE and its samples; nothing at all when there are none.
  private mutating func family(
    _ name: String, _ type: String, _ help: String, _ samples: () -> [Sample]
  ) {
    let samples = samples()
    if samples.isEmpty { return }
    text += "# HELP \(name) \(help)\n# TYPE \(name) \(type)\n"
    for (labels, value) in samples {
      let list = labels.map { "\($0.name)=\"\(Metrics.escaped($0.value))\"" }.joined(separator: ",")
      text += labels.isEmpty ? "\(name) \(value)\n" : "\(name){\(list)} \(value)\n"
    }
  }

  static func escaped(_ value: String) -> String {
    var escaped = ""
    for scalar in value.unicodeScalars {
      switch scalar {
      case "\\": escaped += "\\\\"
      case "\"": escaped += "\\\""
      case "\n": escaped += "\\n"
      default: escaped.unicodeScalars.append(scalar)
      }
    }
    return escaped
  }

  private static func number(_ value: Double) -> String {
    if value.isNaN { return "NaN" }
    if value.isInfinite { return value < 0 ? "-Inf" : "+Inf" }
    return "\(value)"
  }
}
