internal import Linux

/// How rings go from stopped to running and back (E72–E77): one rule for every message that changes what a ring
/// stands on. What a running ring can take in its stride (`Session+Rings`) does not come here.
extension Session {
  /// Stops those rings of `indices` that run, calls `change`, and makes those due that can be started, whether they
  /// ran or not. When `change` throws, the rings go on as they were.
  func reconfigure(
    _ indices: some Sequence<Int>, _ change: () throws(ProtocolError) -> Void
  ) throws(ProtocolError) -> Outcome {
    let indices = Array(indices)
    stop(indices)
    // On a throw, too.
    defer { makeDue(indices) }
    try change()
    return .changed(Set(indices))
  }

  /// Stops those rings of `indices` that run, all at once, and keeps the places where they ended. The others are
  /// not started any more, if they were about to be.
  func stop(_ indices: some Sequence<Int>) {
    var running: [Int] = []
    var waiting: [Int] = []
    for index in indices {
      if rings[index].state == .running {
        running.append(index)
      } else if rings[index].waits {
        waiting.append(index)
      }
      rings[index].state = .stopped
      rings[index].waits = false
    }
    if !waiting.isEmpty { backend.abandonRings(waiting) }
    if !running.isEmpty { end(running, backend.stopRings(running)) }
  }

  /// Stops running rings whose own addresses are not known any more; they are due again at once.
  func suspend(_ indices: [Int]) {
    let running = indices.filter { rings[$0].state == .running }
    if running.isEmpty { return }
    end(running, backend.suspendRings(running))
    for index in running { rings[index].waits = true }
    makeDue(running)
  }

  /// Notes where rings have ended.
  private func end(_ indices: [Int], _ bases: [UInt32]) {
    for (index, base) in zip(indices, bases) {
      rings[index].state = .stopped
      rings[index].base = base
      onEvent(.ringStopped(index))
    }
  }

  /// Has those of these stopped rings be started that have everything they need.
  func makeDue(_ indices: some Sequence<Int>) {
    for index in indices where configuration(of: index) != nil { rings[index].state = .due }
  }

  /// All that is needed to start a ring, once it is there.
  private func configuration(of index: Int) -> RingConfiguration? {
    guard let features, !regions.isEmpty else { return nil }
    if protocolFeatures.contains(.status), !status.contains(.driverOK) { return nil }
    return rings[index].configuration(index: index, features: features)
  }

  /// Starts all rings that are due, at once. Returns those of them that should have started and did not.
  @discardableResult
  func startDue() -> Set<Int> {
    let due = rings.indices.filter { rings[$0].state == .due }
    if due.isEmpty { return [] }
    var failures: Set<Int> = []
    var sound: [RingConfiguration] = []
    for index in due {
      rings[index].state = .stopped
      guard let ring = configuration(of: index) else {
        stop([index])
        continue
      }
      // Size and base were judged when they came, but by the features of that time.
      let packed = ring.features.contains(.ringPacked)
      let flaw =
        Ring.flaw(size: UInt32(ring.size), packed: packed)
        ?? Ring.flaw(base: ring.base, packed: packed)
      if let flaw {
        stop([index])
        reportFailure(of: index, BackendError(flaw))
        failures.insert(index)
      } else {
        sound.append(ring)
      }
    }
    if sound.isEmpty { return failures }
    for (ring, error) in zip(sound, backend.startRings(sound)) {
      switch error {
      case nil:
        rings[ring.index].state = .running
        rings[ring.index].waits = false
        onEvent(.ringStarted(ring.index, enabled: ring.enabled))
      case .notTranslated?:
        rings[ring.index].state = .awaitsTranslation
        rings[ring.index].waits = true
      case let error?:
        stop([ring.index])
        reportFailure(of: ring.index, error)
        failures.insert(ring.index)
      }
    }
    return failures
  }

  /// Tells everyone but the answer that a ring does not run though it should.
  func reportFailure(of index: Int, _ error: BackendError) {
    onEvent(.ringFailed(index, error.message))
    if let descriptor = rings[index].error { Notifier.signal(descriptor) }
  }

  /// The ring a message means; never one that is not there.
  func ring(_ index: UInt32, _ request: Request) throws(ProtocolError) -> Int {
    guard index < UInt32(rings.count) else {
      throw .refused(request, "there is no ring \(index), only 0…\(rings.count - 1)")
    }
    return Int(index)
  }
}
