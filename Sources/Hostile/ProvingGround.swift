internal import ControlAPI
internal import Linux
internal import VirtioDriver

/// Where cases are tried: a switch, bystanders and a witness on it, all of which last from case to case, and are made
/// anew when the switch has died of one.
public final class ProvingGround {
  public let subject: Subject
  private var bystanders: Bystanders
  private var witness: GuestPort
  /// What the switch held when everybody had attached and the attacked socket had been used once: it may hold no more
  /// after any case, however many there were.
  private var held: ProcessUsage?

  /// - Parameter subject: no other `ProvingGround` may use it.
  public init(_ subject: Subject) throws {
    self.subject = subject
    bystanders = try Bystanders(Array(subject.plan.sockets.prefix(2)))
    witness = try ProvingGround.witness(of: subject)
    try settle()
  }

  deinit { bystanders.stop() }

  static func witness(of subject: Subject) throws -> GuestPort {
    var options = GuestPort.Options()
    options.timeout = 30_000
    options.transmitBufferLength = 4096
    let witness = try GuestPort(path: subject.plan.sockets[3], options: options)
    _ = witness.send(
      TestFrame.make(
        to: .broadcast, from: Site.witness, stream: Site.witnessStream, sequence: 0))
    return witness
  }

  /// What is made at the first use of a socket is no leak.
  private func settle() throws {
    guard bystanders.advance(by: 1, milliseconds: 30_000) else {
      throw SubjectError(description: "\(subject.plan.name) carries no frames")
    }
    let problems = freshFrontEnd()
    guard problems.isEmpty else {
      throw SubjectError(description: "\(subject.plan.name): \(problems.joined(separator: "; "))")
    }
    awaitDisconnection()
    // The port is free before the last of what its session held is.
    _ = Deadline.wait(milliseconds: subject.plan.patience) {
      let before = held
      held = ProcessUsage(of: subject.pid)
      for _ in 0..<20 { Deadline.pause() }
      return before == held
    }
  }

  private func rebuild() throws {
    bystanders.stop()
    witness.disconnect()
    try subject.restart()
    bystanders = try Bystanders(Array(subject.plan.sockets.prefix(2)))
    witness = try ProvingGround.witness(of: subject)
    try settle()
  }

  // ---- A case ----

  /// Whether it is swivel, which can be asked what it calls what happened.
  private var isStrict: Bool { subject.plan.control != nil }

  /// Tries a case; the switch is started anew when that was the end of it.
  public func run(_ entry: Case) throws -> Verdict {
    let start = ContinuousClock.now
    var verdict = Verdict(name: entry.name)
    let patience = subject.plan.patience
    let portBefore = subject.port
    let readingBefore = bystanders.reading
    bystanders.forgetPauses()

    let site = Site(
      socket: subject.plan.sockets[2], witness: witness, patience: patience, isStrict: isStrict,
      visitor: subject.plan.sockets.dropFirst(4).first,
      accomplice: subject.plan.sockets.dropFirst(5).first, control: subject.plan.control)
    do {
      try entry.attack(site)
    } catch AttackError.notOffered(let what) {
      verdict.notOffered = what
    } catch FrontEndError.notOffered(let what) {
      verdict.notOffered = what
    } catch let error as FrontEndError where !isStrict && error != .memory {
      // It hung up, or did not answer a front-end that behaves like this: its own business.
    } catch AttackError.hurt(let what) {
      verdict.problems.append(what)
    } catch {
      verdict.problems.append("the attack failed: \(error)")
    }
    if verdict.notOffered == nil, let portBefore {
      judgeSign(entry, before: portBefore, count: site.offences, &verdict)
      verdict.problems += uncounted(site.faults, since: portBefore)
    }

    let moves = bystanders.advance(by: 16, milliseconds: patience)
    verdict.bystanders = bystanders.reading - readingBefore
    verdict.longestVisit = site.longestVisit
    site.close()
    site.collect()
    if !subject.isAlive {
      // Whatever else was seen, this is why.
      verdict.problems = ["dies: \(subject.end)"]
    } else if !moves {
      verdict.problems = ["hangs"]
    } else {
      judgeBystanders(&verdict)
      verdict.problems += freshFrontEnd()
      awaitDisconnection()
      verdict.problems += leaks()
      if !subject.isAlive { verdict.problems = ["dies: \(subject.end)"] }
    }
    if !verdict.passed, needsRestart { try rebuild() }
    let (seconds, attoseconds) = (ContinuousClock.now - start).components
    verdict.duration = Double(seconds) + Double(attoseconds) / 1e18
    return verdict
  }

  /// Whether the switch can't be given another case.
  private var needsRestart: Bool {
    !subject.isAlive || !bystanders.advance(by: 1, milliseconds: subject.plan.patience)
      || !freshFrontEnd().isEmpty
  }

  private func judgeSign(
    _ entry: Case, before: Port, count: Int, _ verdict: inout Verdict
  ) {
    _ = Deadline.wait(milliseconds: subject.plan.patience) {
      guard let port = subject.port else { return !subject.isAlive }
      verdict.sign = entry.signs.first { $0.isShown(before: before, after: port, count: count) }
      return verdict.sign != nil
    }
    if verdict.sign == nil, subject.isAlive {
      let wanted = entry.signs.map(\.description).joined(separator: " or ")
      verdict.problems.append(
        "not named \(wanted); \(subject.port.map(ProvingGround.describe) ?? "")")
    }
  }

  /// The faults that the port has not counted, in words.
  private func uncounted(_ faults: [String: UInt64], since before: Port) -> [String] {
    var problems: [String] = []
    _ = Deadline.wait(milliseconds: subject.plan.patience) {
      guard let port = subject.port else { return !subject.isAlive }
      problems = faults.sorted { $0.key < $1.key }.compactMap { name, count in
        let counted = (port.faults[name] ?? 0) - (before.faults[name] ?? 0)
        return counted < count ? "\(counted) of \(count) times counted as \(name)" : nil
      }
      return problems.isEmpty
    }
    return problems
  }

  private static func describe(_ port: Port) -> String {
    "drops \(port.received.drops) and \(port.sent.drops), last error \(port.lastError ?? "none")"
  }

  private func judgeBystanders(_ verdict: inout Verdict) {
    let reading = verdict.bystanders
    if reading.missing > 0 { verdict.problems.append("others lose \(reading.missing) frames") }
    if reading.reordered > 0 {
      verdict.problems.append("\(reading.reordered) frames of others out of order")
    }
    if reading.corrupt > 0 {
      verdict.problems.append("\(reading.corrupt) frames of others not whole")
    }
    if reading.longestPause > Double(subject.plan.patience) / 1000 {
      verdict.problems.append("others wait for \(Int(reading.longestPause)) s")
    }
  }

  // ---- Afterwards ----

  /// Attaches a guest to the attacked socket and has it exchange a frame with the witness; returns what is wrong.
  private func freshFrontEnd() -> [String] {
    var last = "a new front-end can't attach"
    // One that is quick may find the socket still busy with the one before it.
    let works = Deadline.wait(milliseconds: subject.plan.patience) {
      if !subject.isAlive { return true }
      do {
        var options = GuestPort.Options()
        options.timeout = subject.plan.patience
        let guest = try GuestPort(path: subject.plan.sockets[2], options: options)
        defer { guest.disconnect() }
        if let problem = try exchange(guest) {
          last = problem
          return false
        }
        return true
      } catch {
        last = "a new front-end can't attach: \(error)"
        return false
      }
    }
    return works ? [] : [last]
  }

  private func exchange(_ guest: GuestPort) throws -> String? {
    let there = TestFrame.make(
      to: Site.witness, from: Site.attacker, stream: Site.attackerStream, sequence: 1 << 40)
    let back = TestFrame.make(
      to: Site.attacker, from: Site.witness, stream: Site.witnessStream, sequence: 1 << 40)
    func passes(_ frame: [UInt8], from sender: GuestPort, to receiver: GuestPort) throws -> Bool {
      guard try sender.send(frame, milliseconds: subject.plan.patience) else { return false }
      return Deadline.wait(milliseconds: subject.plan.patience) {
        while let received = receiver.receive() { if received == frame { return true } }
        return false
      }
    }
    guard try passes(there, from: guest, to: witness) else {
      return "a new front-end's frame does not arrive"
    }
    guard try passes(back, from: witness, to: guest) else {
      return "no frame arrives at a new front-end"
    }
    return guest.offences.first
  }

  /// Waits until the switch has noticed that nobody is on the attacked socket; of one that does not tell, the
  /// descriptors do.
  private func awaitDisconnection() {
    _ = Deadline.wait(milliseconds: subject.plan.patience) {
      guard isStrict else { return true }
      return !subject.isAlive || subject.port?.state == .waiting
    }
  }

  /// What the switch holds beyond what it may, in words; it is held to that only once.
  private func leaks() -> [String] {
    guard let held else { return [] }
    var excess: [String] = []
    _ = Deadline.wait(milliseconds: subject.plan.patience) {
      excess = ProcessUsage(of: subject.pid)?.excess(over: held) ?? []
      return excess.isEmpty || !subject.isAlive
    }
    if !excess.isEmpty { self.held = ProcessUsage(of: subject.pid) }
    return excess.map { "leaks \($0)" }
  }

  /// What the switch did to the bystanders against the specification, in words. Nothing can be tried afterwards.
  public func finish() -> [String] {
    bystanders.stop()
    witness.disconnect()
    return bystanders.offences + witness.offences
  }
}
