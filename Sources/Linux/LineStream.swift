internal import CLinux
internal import Glibc

/// Lines of text to a descriptor that nobody may read: a pipe, a socket, a terminal that was stopped. What does not fit
/// at once is dropped and counted, so that no writer ever waits for a reader; a line says how many once there is room.
public final class LineStream: Sendable {
  /// What is written as one piece, of a pipe with nothing of others' in between (PIPE_BUF).
  private static let limit = 4096

  private let descriptor: OwnedFD
  private let isSocket: Bool
  private let state = Lock(State())
  /// The line for so many that were dropped.
  private let notice: @Sendable (UInt64) -> String

  private struct State: Sendable {
    /// The rest of a line of which a part was written.
    var rest: [UInt8] = []
    var dropped: UInt64 = 0
    var unsaid: UInt64 = 0
  }

  /// - Parameters:
  ///   - descriptor: stays open, and as it is for others who have it.
  ///   - notice: the line that tells of so many that were dropped, without its end.
  public init(to descriptor: CInt, notice: @escaping @Sendable (UInt64) -> String)
    throws(SystemError)
  {
    self.notice = notice
    var status = stat()
    // SAFETY: fills the local.
    let kind = unsafe fstat(descriptor, &status) == 0 ? status.st_mode & S_IFMT : 0
    isSocket = kind == S_IFSOCK
    if kind == S_IFIFO || kind == S_IFCHR {
      // Not to wait is a property of the open file, which other processes have too: it takes one of its own.
      let own = unsafe open(
        "/proc/self/fd/\(descriptor)", O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC)
      if own >= 0 {
        self.descriptor = OwnedFD(taking: own)
        return
      }
    }
    let copy = fcntl(descriptor, F_DUPFD_CLOEXEC, 3)
    self.descriptor = OwnedFD(taking: try SystemError.check(copy < 0 ? -errno : copy, "use a log"))
  }

  /// Lines dropped so far.
  public var dropped: UInt64 { state.withLock { $0.dropped } }

  /// Writes a line, its end included, or drops it.
  public func write(_ line: String) {
    let bytes = LineStream.bytes(line)
    state.withLock { state in
      if !state.rest.isEmpty {
        state.rest.removeFirst(put(state.rest))
      }
      if state.rest.isEmpty, state.unsaid > 0 {
        let note = LineStream.bytes(notice(state.unsaid))
        let count = put(note)
        if count > 0 {
          state.unsaid = 0
          state.rest = Array(note.dropFirst(count))
        }
      }
      let count = state.rest.isEmpty && state.unsaid == 0 ? put(bytes) : 0
      if count == 0 {
        state.dropped += 1
        state.unsaid += 1
      } else {
        state.rest = Array(bytes.dropFirst(count))
      }
    }
  }

  private static func bytes(_ line: String) -> [UInt8] {
    Array(line.utf8.prefix(limit - 1)) + [0x0a]
  }

  /// Writes what fits now, and returns how much that was.
  private func put(_ bytes: [UInt8]) -> Int {
    // SAFETY: both calls read the array during the call.
    if isSocket {
      return max(
        0, unsafe send(descriptor.raw, bytes, bytes.count, CInt(MSG_DONTWAIT | MSG_NOSIGNAL)))
    }
    // Where the descriptor is shared and waits, this look keeps from waiting.
    let ready = try? Poller.wait([(descriptor.raw, .write)], milliseconds: 0)
    guard ready?[0] == true else { return 0 }
    return max(0, unsafe Glibc.write(descriptor.raw, bytes, bytes.count))
  }
}
