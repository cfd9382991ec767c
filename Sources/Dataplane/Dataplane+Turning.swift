/// Workers without threads, for tests and for counting what a frame costs: nothing happens but in `turn`.
extension Dataplane {
  /// Lets one worker poll each of its queues once, in the caller's thread. Everything else that this class offers
  /// works as it does beside threads.
  ///
  /// - Parameter worker: its place in the configuration, which must have said that there are no threads. No two
  ///   threads may turn one worker at a time.
  /// - Returns: the frames taken.
  public func turn(worker: Int = 0) -> Int { crew[worker].turn() }
}
