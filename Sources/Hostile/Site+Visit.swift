internal import ControlClient
internal import Linux
internal import VirtioDriver

/// Whether others are served while somebody is up to no good.
extension Site {
  /// While the attack goes on: a guest attaches to a socket that nobody else uses, negotiates, starts its rings and,
  /// unless `silently`, sends the witness a frame; and the control socket answers. Of another switch nothing is asked.
  func visit(silently: Bool = false) throws {
    guard let visitor, let control else { return }
    let start = ContinuousClock.now
    defer {
      let (seconds, attoseconds) = (ContinuousClock.now - start).components
      longestVisit = max(longestVisit, Double(seconds) + Double(attoseconds) / 1e18)
    }
    do {
      _ = try ControlClient(path: control).get("/v1/ports/visitor")
    } catch {
      throw AttackError.hurt("the control socket does not answer: \(error)")
    }
    do {
      var options = GuestPort.Options()
      options.ringSize = 64
      options.timeout = patience
      let guest = try GuestPort(path: visitor, options: options)
      defer { guest.disconnect() }
      if silently { return }
      let frame = TestFrame.make(
        to: Site.witness, from: Site.visitor, stream: 0xA5A5_A504, sequence: 0)
      guard guest.send(frame) else { throw AttackError.hurt("a visitor can't send") }
      let arrives = Deadline.wait(milliseconds: patience) { collect().contains(frame) }
      if !arrives { throw AttackError.hurt("a visitor's frame does not arrive") }
    } catch let error as FrontEndError {
      throw AttackError.hurt("a visitor can't attach: \(error)")
    }
  }

  /// Runs `body` again and again for `milliseconds`, and lets somebody else be served in between.
  func besiege(milliseconds: Int, _ body: () throws -> Void) throws {
    let deadline = Deadline(milliseconds: milliseconds)
    var visits = 0
    repeat {
      try body()
      if visits == 0 || deadline.isOver {
        try visit()
        visits += 1
      }
    } while !deadline.isOver || visits < 2
  }
}
