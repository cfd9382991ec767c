import Foundation
import Glibc

/// One line on the terminal that says what is being done; nothing when nobody would see it.
final class Progress {
  private var shown = 0

  /// `nil` when standard error is no terminal.
  init?() {
    if isatty(2) != 1 { return nil }
  }

  func show(_ text: String) {
    write("\r" + text + String(repeating: " ", count: max(0, shown - text.count)))
    shown = text.count
  }

  func clear() {
    if shown > 0 { write("\r" + String(repeating: " ", count: shown) + "\r") }
    shown = 0
  }

  private func write(_ text: String) {
    try? FileHandle.standardError.write(contentsOf: Data(text.utf8))
  }
}
