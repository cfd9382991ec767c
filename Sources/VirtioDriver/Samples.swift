/// Times that frames took, in ticks, as many as there is room for: no allocation while they are taken.
@safe struct Samples: ~Copyable {
  /// Stamps count parts of a tick, so that evenly spaced ones may be less than a tick apart.
  static let fraction: UInt64 = 8

  private let values: UnsafeMutablePointer<UInt32>
  private let capacity: Int
  private(set) var count = 0
  /// One frame of so many is a sample.
  private var every = 1
  private var wait = 1

  init(capacity: Int) {
    self.capacity = capacity
    // SAFETY: freed by `deinit`.
    unsafe values = .allocate(capacity: capacity)
  }

  deinit { unsafe values.deallocate() }

  /// Forgets all; from now on one frame of so many is a sample that `expected` frames fit.
  mutating func reset(expecting expected: Double) {
    count = 0
    every = max(1, Int((expected / Double(capacity)).rounded(.up)))
    wait = every
  }

  /// - Parameters:
  ///   - stamp: when the frame was to be sent, in parts of a tick.
  ///   - now: in ticks.
  @inline(always)
  mutating func add(stamp: UInt64, now: UInt64) {
    wait &-= 1
    if wait > 0 || count >= capacity { return }
    wait = every
    let ticks = Int64(bitPattern: (now &<< Samples.fraction) &- stamp) >> Int64(Samples.fraction)
    // SAFETY: below the capacity.
    unsafe values[count] = UInt32(clamping: ticks)
    count &+= 1
  }

  func forEach(_ body: (UInt32) -> Void) {
    for index in 0..<count { body(unsafe values[index]) }
  }
}
