internal import CLinux

/// The yardstick: what memcpy(3) alone does with the frames of two lanes.
extension Generator {
  /// Copies frames of `length` bytes, each by one call, from the transmit buffers of lanes to the receive buffers of
  /// others: as many frames as the rings hold, in ring order, a burst from one lane, then from the next. So the areas
  /// of memory are those that a switch copies from and to, which looks after descriptors, headers and pieces besides.
  ///
  /// What the receive buffers hold is lost: no frame may be under way.
  ///
  /// - Parameters:
  ///   - pairs: lanes to copy from and to.
  ///   - seconds: after every buffer has been used once.
  /// - Returns: frames copied, and the seconds it took.
  public func copyFrames(
    of length: Int, between pairs: [(from: Int, to: Int)], seconds: Double
  ) -> (frames: UInt64, seconds: Double) {
    let routes = pairs.map { Route(self[$0.from].sources(length), self[$0.to].targets(length)) }
    precondition(!routes.isEmpty)
    var positions = [Int](repeating: 0, count: routes.count)
    var frames: UInt64 = 0
    func turn() {
      for (index, route) in routes.enumerated() {
        for _ in 0..<route.burst {
          route.copy(positions[index], length)
          positions[index] &+= 1
        }
        frames &+= UInt64(route.burst)
      }
    }
    while zip(positions, routes).contains(where: { $0 < $1.lap }) { turn() }
    frames = 0
    let start = clx_ticks()
    let end = UInt64(seconds * ticksPerSecond)
    var elapsed: UInt64 = 0
    repeat {
      turn()
      elapsed = clx_ticks() &- start
    } while elapsed < end
    return (frames, Double(elapsed) / ticksPerSecond)
  }
}

/// Places for frames, evenly apart in one area of memory.
@safe struct FramePlaces {
  let first: UnsafeMutableRawPointer
  let stride: Int
  let count: Int
}

/// Where frames are copied from and to.
private struct Route {
  let from: FramePlaces
  let to: FramePlaces

  init(_ from: FramePlaces, _ to: FramePlaces) {
    self.from = from
    self.to = to
  }

  /// Frames in a row, as a switch takes them.
  var burst: Int { min(Lane.burst, from.count, to.count) }
  /// After so many every place of both has been used.
  var lap: Int { max(from.count, to.count) }

  @inline(__always)
  func copy(_ number: Int, _ length: Int) {
    // SAFETY: each place has room for a frame (`Lane.places`), and numbers are taken below the count.
    unsafe clx_copy(
      to.first + number % to.count * to.stride, from.first + number % from.count * from.stride,
      length)
  }
}

extension Lane {
  /// Where frames of `length` bytes begin in the transmit buffers.
  func sources(_ length: Int) -> FramePlaces {
    let pieces = (length + options.transmitRoom - 1) / options.transmitRoom
    precondition(pieces <= options.pieces)
    // With indirect tables each head has all pieces for itself.
    let heads = options.indirect ? 1 : pieces
    return unsafe FramePlaces(
      first: transmitFrames, stride: heads * transmitStride, count: transmitq.size / heads)
  }

  /// Where frames of `length` bytes begin in the receive buffers.
  func targets(_ length: Int) -> FramePlaces {
    let buffers = (length + options.receiveRoom - 1) / options.receiveRoom
    precondition(fullLength != .max || buffers == 1, "a frame of several buffers, not mergeable")
    return unsafe FramePlaces(
      first: receiveFrames, stride: buffers * receiveStride, count: receiveq.size / buffers)
  }
}
