internal import Glibc

/// Open files that are kept for when there are no more: whoever must be served then closes one and has it.
public final class SpareDescriptors: Sendable {
  private let kept: Lock<[OwnedFD]>
  private let count: Int

  public init(_ count: Int) {
    self.count = count
    kept = Lock([])
    refill()
  }

  /// Closes one; `false`: there is none left.
  public func giveOne() -> Bool { kept.withLock { $0.popLast() } != nil }

  /// Opens as many as are missing and can be had.
  public func refill() {
    kept.withLock { kept in
      while kept.count < count {
        guard let event = try? EventFD() else { return }
        kept.append(event.descriptor)
      }
    }
  }
}
