import ControlAPI
import Glibc
import Linux
import Logging

/// The daemon's log, on standard error: a line for each event, from a level on that can change while it runs. Nobody
/// waits for whoever reads it (`LineStream`).
final class DaemonLog: Sendable {
  private let stream: LineStream
  private let threshold: Lock<LogLevel>

  init(level: LogLevel, descriptor: CInt = 2) throws {
    threshold = Lock(level)
    stream = try LineStream(to: descriptor) { count in
      DaemonLog.line(
        .warning,
        "[swiveld] \(count) lines before this one were not written: whoever reads the log did not")
    }
  }

  var level: LogLevel {
    get { threshold.withLock { $0 } }
    set { threshold.withLock { $0 = newValue } }
  }

  /// Lines that were not written, as nobody read them.
  var dropped: UInt64 { stream.dropped }

  var logger: Logger { Logger(label: "swiveld") { _ in Handler(log: self) } }

  fileprivate func write(_ level: Logger.Level, _ message: String) {
    stream.write(DaemonLog.line(level, message))
  }

  /// One line, whatever is in the message.
  private static func line(_ level: Logger.Level, _ message: String) -> String {
    let plain = message.replacing("\n", with: "; ")
    return "\(timestamp()) \(level) swiveld: \(plain)"
  }

  private static func timestamp() -> String {
    // SAFETY: the calls fill the locals, the text no further than its length.
    var now = time(nil)
    var local = unsafe tm()
    var text = [CChar](repeating: 0, count: 64)
    _ = unsafe localtime_r(&now, &local)
    let length = unsafe strftime(&text, text.count, "%Y-%m-%dT%H:%M:%S%z", &local)
    return String(decoding: text.prefix(length).map { UInt8(bitPattern: $0) }, as: UTF8.self)
  }

  /// What swift-log asks of a log.
  private struct Handler: LogHandler {
    let log: DaemonLog
    var metadata = Logger.Metadata()

    init(log: DaemonLog) { self.log = log }

    /// The daemon's, for all loggers.
    var logLevel: Logger.Level {
      get { Logger.Level(log.level) }
      set {}
    }

    subscript(metadataKey key: String) -> Logger.Metadata.Value? {
      get { metadata[key] }
      set { metadata[key] = newValue }
    }

    func log(event: LogEvent) {
      log.write(event.level, "[\(event.source)] \(event.message)")
    }
  }
}

extension Logger.Level {
  init(_ level: LogLevel) {
    self =
      switch level {
      case .trace: .trace
      case .debug: .debug
      case .info: .info
      case .notice: .notice
      case .warning: .warning
      case .error: .error
      case .critical: .critical
      }
  }
}
