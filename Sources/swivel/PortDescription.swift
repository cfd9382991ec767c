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
    if let vhost = port.vhostUser {
      text += list("features", vhost.features)
      text += list("protocol features", vhost.protocolFeatures)
      text += list("device status", vhost.deviceStatus)
      text += memory(vhost.memoryRegions)
      if let iotlb = vhost.iotlb { text += "\n  IOTLB: \(translations(iotlb))\n" }
    }
    return text
  }

  private static func facts(_ port: Port) -> String {
    var facts: [(String, String)] = [("kind", port.kind.rawValue)]
    if let vhost = port.vhostUser {
      let listener = vhost.mode == .server ? "swivel listens" : "the front-end listens"
      facts.append(("socket", "\(vhost.path) (\(listener))"))
      facts.append(("queue pairs", "\(vhost.queuePairs)"))
      facts.append(("front-end", vhost.frontEndPID.map { "process \($0)" } ?? "none that is known"))
      facts.append(("connections", Figures.grouped(vhost.connections)))
    }
    if let tap = port.tap {
      facts.append(
        ("device", "\(tap.device) (\(tap.made ? "made by swivel" : "was there before"))"))
      facts.append(("queues", "\(tap.queues)"))
    }
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

  /// The names after their title, broken where a line would be longer than 100 columns.
  private static func list(_ title: String, _ names: [String]) -> String {
    var text = "\n  \(title):"
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

  private static func translations(_ iotlb: IOTLBStatus) -> String {
    var text =
      "\(Figures.grouped(iotlb.entries)) entries, \(Figures.grouped(iotlb.updates)) updates, "
      + "\(Figures.grouped(iotlb.invalidations)) invalidations, \(Figures.grouped(iotlb.misses)) misses"
    if !iotlb.waitingRings.isEmpty {
      text += "; rings that wait: \(iotlb.waitingRings.map(String.init).joined(separator: ", "))"
    }
    return text
  }

  private static func memory(_ regions: [MemoryRegion]) -> String {
    if regions.isEmpty { return "\n  memory regions: none\n" }
    var table = Table([
      ("  GUEST ADDRESS", .right), ("SIZE", .right), ("PAGES", .right), ("NODE", .right),
    ])
    for region in regions {
      table.add([
        "0x" + String(region.guestAddress, radix: 16), Figures.memory(region.size),
        Figures.memory(region.pageSize), Figures.optional(region.node),
      ])
    }
    return "\n" + table.text
  }
}
