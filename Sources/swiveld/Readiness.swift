import Foundation
import Linux

/// Tells the service manager how the daemon is doing (systemd's sd_notify protocol). Without a service
/// manager, or with one that does not listen, nothing happens: a daemon must not fail for that.
struct Readiness: Sendable {
  private let address: String?
  /// The longest that the manager waits for `alive` before it ends the daemon and starts another; `nil`: it does not.
  let patience: Duration?

  /// Looks for `NOTIFY_SOCKET`, `WATCHDOG_USEC` and `WATCHDOG_PID` in the environment.
  init(environment: [String: String] = ProcessInfo.processInfo.environment) {
    let address = environment["NOTIFY_SOCKET"] ?? ""
    // A path, or an abstract name after an "@". systemd has vsock: addresses too, for whole machines.
    self.address = address.hasPrefix("/") || address.hasPrefix("@") ? address : nil
    // sd_watchdog_enabled(3): a process that inherited the variables from the one they are meant for is not watched.
    let isMeant = environment["WATCHDOG_PID"].map { $0 == "\(getpid())" } ?? true
    let microseconds = environment["WATCHDOG_USEC"].flatMap { Int($0) } ?? 0
    let isWatched = self.address != nil && isMeant && microseconds > 0
    patience = isWatched ? .microseconds(microseconds) : nil
  }

  /// The daemon serves; after a reload, again.
  func ready(_ status: String) { send(["READY=1", "STATUS=\(status)"]) }

  /// The configuration is read again; `ready` follows, whether or not it was taken.
  func reloading() {
    // Type=notify-reload wants to know when, by the clock that does not jump.
    let now = DispatchTime.now().uptimeNanoseconds / 1000
    send(["RELOADING=1", "MONOTONIC_USEC=\(now)", "STATUS=reads its configuration again"])
  }

  /// Another process is the daemon from now on.
  func handsOver(to process: Int) { send(["MAINPID=\(process)"]) }

  /// The daemon lives. Said again and again; a manager that waits for it in vain ends the daemon.
  func alive() { send(["WATCHDOG=1"]) }

  func stopping() { send(["STOPPING=1", "STATUS=stops"]) }

  private func send(_ assignments: [String]) {
    guard let address else { return }
    // One assignment a line: a newline inside would begin another.
    let lines = assignments.map { $0.replacingOccurrences(of: "\n", with: " ") }
    try? NotifySocket.send(lines.joined(separator: "\n"), to: address)
  }
}
