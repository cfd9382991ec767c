internal import ControlAPI

/// `swivel port show`: everything about a port, for a person who wants to know why it does what it does.
enum PortDescription {
  static func text(_ port: Port, _ style: Style) -> String {
    var text = "\(port.name): \(style.state(port.state.rawValue))\n"
    if !port.explanation.isEmpty { text += "  \(port.explanation)\n" }
    if let error = port.lastError { text += "  last error: \(error)\n" }
    text += "\n" + facts(port) + "\n" + rings(port)
    text += drops(port)
    text += faults(port)
    text += (port.status?.paragraphs ?? []).map { "\n" + paragraph($0) }.joined()
    return text
  }

  private static func facts(_ port: Port) -> String {
    var facts: [(String, String)] = [("kind", port.kind.rawValue)]
    facts += (port.status?.facts ?? []).map { ($0.name, $0.value) }
    if let mtu = port.mtu { facts.append(("MTU", "\(mtu) bytes")) }
    if let node = port.guestNode { facts.append(("guest's NUMA node", "\(node)")) }
    let limit = port.macLimit.map { " of at most \(Figures.grouped($0))" } ?? ""
    facts.append(("addresses", Figures.grouped(port.macs) + limit))
    facts.append(("learning", learning(port.learning)))
    facts.append(("in", total(port.received)))
    facts.append(("out", total(port.sent)))
    let width = facts.map { $0.0.count }.max() ?? 0
    return facts.map { name, value in
      "  \(name)\(String(repeating: " ", count: width - name.count))  \(value)\n"
    }.joined()
  }

  private static func learning(_ counters: LearningCounters) -> String {
    [
      (counters.learned, "learned"), (counters.moved, "moved here"),
      (counters.limited, "gone by the limit"), (counters.evicted, "evicted for these"),
      (counters.deferred, "frames not learned from"),
    ].map { "\(Figures.grouped($0)) \($1)" }.joined(separator: ", ")
  }

  private static func total(_ counters: Counters) -> String {
    "\(Figures.grouped(counters.frames)) frames, \(Figures.grouped(counters.bytes)) bytes, "
      + "\(Figures.grouped(counters.dropped)) dropped"
  }

  private static func rings(_ port: Port) -> String {
    if port.queues.isEmpty { return "  no rings\n" }
    var table = Table([
      ("  RING", .right), ("DIRECTION", .left), ("STATE", .left), ("SIZE", .right),
      ("WORKER", .right), ("NODE", .right), ("FRAMES", .right), ("BYTES", .right),
      ("BURSTS", .right), ("NOTIFICATIONS", .right), ("REPLICAS", .right), ("DROPS", .right),
    ])
    for queue in port.queues {
      table.add([
        "\(queue.index)", queue.direction.rawValue, queue.state.rawValue, "\(queue.size)",
        queue.worker.map(String.init) ?? (queue.direction == .receiveq ? "any" : "-"),
        Figures.optional(queue.workerNode), Figures.grouped(queue.counters.frames),
        Figures.grouped(queue.counters.bytes), Figures.grouped(queue.counters.bursts),
        Figures.grouped(queue.counters.notifications), Figures.grouped(queue.counters.replicas),
        Figures.grouped(queue.counters.dropped),
      ])
    }
    var text = table.text
    for queue in port.queues {
      if let error = queue.error { text += "  ring \(queue.index): \(error)\n" }
    }
    return text
  }

  private static func drops(_ port: Port) -> String {
    var table = Table([("  RING", .right), ("DROPPED", .right), ("REASON", .left)])
    var any = false
    for queue in port.queues {
      for (reason, count) in queue.counters.drops.sorted(by: { $0.key < $1.key }) {
        table.add(["\(queue.index)", Figures.grouped(count), reason])
        any = true
      }
    }
    return any ? "\n" + table.text : ""
  }

  private static func faults(_ port: Port) -> String {
    if port.faults.isEmpty { return "" }
    var table = Table([("  TIMES", .right), ("FAULT", .left)])
    for (name, count) in port.faults.sorted(by: { $0.key < $1.key }) {
      table.add([Figures.grouped(count), name])
    }
    return "\n" + table.text
  }

  private static func paragraph(_ paragraph: Paragraph) -> String {
    switch paragraph {
    case .line(let title, let text): return "  \(title): \(text)\n"
    case .list(let title, let names): return list(title, names)
    case .table(let title, let columns, let rows):
      if rows.isEmpty { return "  \(title): none\n" }
      var table = Table(
        columns.enumerated().map { ($0.offset == 0 ? "  " + $0.element : $0.element, .right) })
      for row in rows { table.add(row) }
      return table.text
    }
  }

  /// The names after their title, broken where a line would be longer than 100 columns.
  private static func list(_ title: String, _ names: [String]) -> String {
    var text = "  \(title):"
    if names.isEmpty { return text + " none\n" }
    text += "\n"
    var line = "   "
    for name in names {
      if line.count + 1 + name.count > 100 {
        text += line + "\n"
        line = "   "
      }
      line += " " + name
    }
    return text + line + "\n"
  }
}
