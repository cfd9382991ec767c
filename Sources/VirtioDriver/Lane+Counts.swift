extension Lane {
  /// What a lane has done so far.
  public struct Counts: Sendable, Equatable {
    public var sentFrames: UInt64 = 0
    /// Without virtio-net headers, like all bytes here.
    public var sentBytes: UInt64 = 0
    public var receivedFrames: UInt64 = 0
    public var receivedBytes: UInt64 = 0
    /// Times the lane was looked at, and those of them when it had neither a frame received nor a buffer
    /// that the device had returned.
    public var polls: UInt64 = 0
    public var idlePolls: UInt64 = 0
    /// Transmit buffers that the device held whenever the lane had taken back those it had returned,
    /// summed up.
    public var held: UInt64 = 0

    public init() {}

    private static func combine(
      _ left: Counts, _ right: Counts, _ operation: (UInt64, UInt64) -> UInt64
    ) -> Counts {
      var result = Counts()
      result.sentFrames = operation(left.sentFrames, right.sentFrames)
      result.sentBytes = operation(left.sentBytes, right.sentBytes)
      result.receivedFrames = operation(left.receivedFrames, right.receivedFrames)
      result.receivedBytes = operation(left.receivedBytes, right.receivedBytes)
      result.polls = operation(left.polls, right.polls)
      result.idlePolls = operation(left.idlePolls, right.idlePolls)
      result.held = operation(left.held, right.held)
      return result
    }

    public static func += (left: inout Counts, right: Counts) { left = combine(left, right, +) }
    public static func - (left: Counts, right: Counts) -> Counts { combine(left, right, -) }
  }
}
