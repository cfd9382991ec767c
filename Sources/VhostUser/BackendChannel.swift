internal import Linux

/// The socket for requests that go from back-end to front-end (SET_BACKEND_REQ_FD, vhost-user.rst, "Back-end message
/// types"). Nothing is read from it, as no request asks for a reply; nothing waits for it either.
final class BackendChannel {
  /// BACKEND_IOTLB_MSG.
  private static let iotlbMsg: UInt32 = 1

  let socket: OwnedFD
  /// The rest of a message of which the front-end has taken a part.
  private(set) var rest: [UInt8]

  /// - Parameter socket: a stream socket.
  init(_ socket: OwnedFD, rest: [UInt8] = []) {
    self.socket = socket
    self.rest = rest
  }

  enum Outcome {
    case sent
    /// There is no room now.
    case full
    case failed(SystemError)
  }

  func send(_ message: IOTLBMessage) -> Outcome {
    do throws(SystemError) {
      // Whole messages one after another: the front-end would take what follows a part for the rest of it.
      guard try flush() else { return .full }
      let payload = message.bytes
      let bytes =
        Header(
          code: BackendChannel.iotlbMsg, flags: Header.version, size: UInt32(payload.count)
        ).bytes + payload
      let sent = try write(bytes)
      if sent == 0 { return .full }
      rest = Array(bytes[sent...])
      return .sent
    } catch {
      return .failed(error)
    }
  }

  private func flush() throws(SystemError) -> Bool {
    if rest.isEmpty { return true }
    rest.removeFirst(try write(rest))
    return rest.isEmpty
  }

  private func write(_ bytes: [UInt8]) throws(SystemError) -> Int {
    // SAFETY: reads the array's own storage, for the length of the call.
    try unsafe bytes.withUnsafeBufferPointer { storage throws(SystemError) in
      try unsafe UnixSocket.send(socket, UnsafeRawBufferPointer(storage))
    }
  }
}

/// The misses that the front-end was asked for and has not answered, so that it is asked once for each page. What is not
/// answered for a while is forgotten, and asked for again if it still is missed: soon the first time, as the front-end may
/// have looked when the page was not mapped, and ever later.
///
/// An invalidation does not end that: whatever the front-end had answered before came before. It is to answer few at a time, as
/// it may take everything back every ten milliseconds, and what is asked for behind many others would be void when it comes.
struct AskedMisses {
  private static let limit = 64
  private static let patience = Duration.milliseconds(50)...Duration.seconds(1)

  private typealias Question = (asked: ContinuousClock.Instant, until: ContinuousClock.Instant)
  private var pages: [IOTLBMiss: Question] = [:]
  private var patience = AskedMisses.patience.lowerBound
  /// When to ask again; `nil`: nothing is awaited.
  private(set) var due: ContinuousClock.Instant?

  private static func page(of miss: IOTLBMiss) -> IOTLBMiss {
    IOTLBMiss(address: miss.address & ~0xFFF, access: miss.access)
  }

  /// Whether the front-end is not to be asked for this: it was, or there are too many.
  func excludes(_ miss: IOTLBMiss) -> Bool {
    pages.count >= AskedMisses.limit || pages[AskedMisses.page(of: miss)] != nil
  }

  /// Notes that the front-end was asked, or, as `sent` is false, could not be.
  mutating func note(_ miss: IOTLBMiss, sent: Bool) {
    let now = ContinuousClock.now
    if sent { pages[AskedMisses.page(of: miss)] = (now, now + patience) }
    if due == nil { due = now + patience }
  }

  /// Notes an answer.
  mutating func answer(_ entry: IOTLBEntry) {
    if pages.isEmpty { return }
    let (first, last) = (entry.address & ~0xFFF, entry.address + (entry.size - 1))
    // What allows less than was asked for is a refusal: it is not asked again at once.
    let answered = pages.filter { page, _ in
      page.address >= first && page.address <= last && entry.access.isSuperset(of: page.access)
    }
    guard let asked = answered.values.map(\.asked).min() else { return }
    for page in answered.keys { pages[page] = nil }
    // A front-end that is slow is not asked twice for what it is about to answer.
    patience = AskedMisses.within(asked.duration(to: .now) * 8)
    if pages.isEmpty { due = nil }
  }

  /// Forgets what has not been answered for long; the next time there is a little more patience.
  mutating func expire() {
    let now = ContinuousClock.now
    let count = pages.count
    pages = pages.filter { $1.until > now }
    if pages.count < count { patience = AskedMisses.within(patience * 2) }
    due = pages.values.map(\.until).min()
  }

  private static func within(_ patience: Duration) -> Duration {
    min(max(patience, AskedMisses.patience.lowerBound), AskedMisses.patience.upperBound)
  }

  mutating func forget() { self = AskedMisses() }
}
