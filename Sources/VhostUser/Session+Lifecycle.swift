internal import Linux

/// How rings go from stopped to live and back (E72–E77): one rule for every message.
extension Session {
  /// Stops those rings of `indices` that are live, calls `change`, and starts those that can be started,
  /// whether they were live or not. When `change` throws, the rings go on as they were.
  ///
  /// Returns `.failed` when one of them would not start.
  func reconfigure(
    _ indices: some Sequence<Int>, _ change: () throws(ProtocolError) -> Void
  ) throws(ProtocolError) -> Outcome {
    for index in indices { stop(index) }
    do throws(ProtocolError) {
      try change()
    } catch {
      for index in indices { _ = start(index) }
      throw error
    }
    var failures: [String] = []
    for index in indices {
      if let failure = start(index) { failures.append(failure) }
    }
    return failures.isEmpty ? .done : .failed(failures.joined(separator: "; "))
  }

  /// Stops a ring, if it is live, and keeps the place where it ended.
  func stop(_ index: Int) {
    if rings[index].awaitsTranslation {
      rings[index].awaitsTranslation = false
      backend.abandonRing(index)
    }
    guard rings[index].isLive else { return }
    rings[index].base = backend.stopRing(index)
    rings[index].isLive = false
    onEvent(.ringStopped(index))
  }

  /// Starts a ring if everything it needs is there. Returns why it would not start, though it should have.
  func start(_ index: Int) -> String? {
    guard let features, !regions.isEmpty else { return nil }
    if protocolFeatures.contains(.status), !status.contains(.driverOK) { return nil }
    guard let ring = rings[index].configuration(index: index, features: features) else {
      return nil
    }

    // Size and base were judged when they came, but by the features of that time.
    let packed = features.contains(.ringPacked)
    let flaw =
      Ring.flaw(size: UInt32(ring.size), packed: packed)
      ?? Ring.flaw(base: ring.base, packed: packed)
    do throws(BackendError) {
      if let flaw { throw BackendError(flaw) }
      try backend.startRing(ring)
    } catch .notTranslated {
      rings[index].awaitsTranslation = true
      return nil
    } catch {
      onEvent(.ringFailed(index, error.message))
      if let descriptor = ring.error { Notifier.signal(descriptor) }
      return "ring \(index): \(error.message)"
    }
    rings[index].isLive = true
    onEvent(.ringStarted(index, enabled: ring.enabled))
    return nil
  }

  /// The ring a message means; never one that is not there.
  func ring(_ index: UInt32, _ request: Request) throws(ProtocolError) -> Int {
    guard index < UInt32(rings.count) else {
      throw .refused(request, "there is no ring \(index), only 0…\(rings.count - 1)")
    }
    return Int(index)
  }
}
