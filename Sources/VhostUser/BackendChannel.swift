internal import Linux

/// The socket for requests that go from back-end to front-end (SET_BACKEND_REQ_FD, vhost-user.rst, "Back-end message
/// types"). Nothing is read from it, as no request asks for a reply; nothing waits for it either.
final class BackendChannel {
  /// BACKEND_IOTLB_MSG.
  private static let iotlbMsg: UInt32 = 1

  private let socket: OwnedFD
  /// The rest of a message of which the front-end has taken a part.
  private var rest: [UInt8] = []

  /// - Parameter socket: a stream socket.
  init(_ socket: OwnedFD) { self.socket = socket }

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

/// The misses that the front-end was asked for and has not answered, so that it is asked once for each page. When
/// no answer has come for a while, all of them are forgotten, and what is still missed then is asked for again: soon
/// the first time, as a page may have been unmapped and mapped anew before the front-end looked, and ever later.
struct AskedMisses {
  private static let limit = 1024
  private static let patience = Duration.milliseconds(50)...Duration.seconds(1)

  private var pages: Set<IOTLBMiss> = []
  private var patience = AskedMisses.patience.lowerBound
  /// When to ask again; `nil`: nothing is awaited.
  private(set) var due: ContinuousClock.Instant?

  private static func page(of miss: IOTLBMiss) -> IOTLBMiss {
    IOTLBMiss(address: miss.address & ~0xFFF, access: miss.access)
  }

  /// Whether the front-end is not to be asked for this: it was, or there are too many.
  func excludes(_ miss: IOTLBMiss) -> Bool {
    pages.count >= AskedMisses.limit || pages.contains(AskedMisses.page(of: miss))
  }

  /// Notes that the front-end was asked, or, as `sent` is false, could not be.
  mutating func note(_ miss: IOTLBMiss, sent: Bool) {
    if sent { pages.insert(AskedMisses.page(of: miss)) }
    if due == nil { due = .now + patience }
  }

  /// Notes an answer.
  mutating func answer(_ entry: IOTLBEntry) {
    // What allows less than was asked for is a refusal: it is not asked again at once.
    let count = pages.count
    removePages(from: entry.address, through: entry.address + (entry.size - 1)) {
      entry.access.isSuperset(of: $0.access)
    }
    if pages.count == count { return }
    patience = AskedMisses.patience.lowerBound
    due = pages.isEmpty ? nil : .now + patience
  }

  /// Notes that the front-end has taken these addresses back: what was asked before is void.
  mutating func withdraw(from first: UInt64, through last: UInt64) {
    removePages(from: first, through: last) { _ in true }
    if pages.isEmpty { due = nil }
  }

  private mutating func removePages(
    from first: UInt64, through last: UInt64, where condition: (IOTLBMiss) -> Bool
  ) {
    if pages.isEmpty { return }
    let first = first & ~0xFFF
    pages = pages.filter { $0.address < first || $0.address > last || !condition($0) }
  }

  /// Begins anew, the next time a little more patient.
  mutating func expire() {
    let next = min(patience * 2, AskedMisses.patience.upperBound)
    self = AskedMisses()
    patience = next
  }

  mutating func forget() { self = AskedMisses() }
}
