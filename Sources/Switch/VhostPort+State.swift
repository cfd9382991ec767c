internal import ControlAPI
internal import Logging
internal import VhostUser

/// What a port has from its predecessor, in the process before, and leaves to its successor.
extension VhostPort {
  var frontEnd: SavedState.FrontEnd? {
    let (pid, started) = status.read { ($0.connected ? $0.pid : nil, $0.started) }
    guard let pid else { return nil }
    return SavedState.FrontEnd(
      pid: pid, started: started, features: VhostBackend.features(of: self).rawValue)
  }

  /// Features that the front-end was offered by a predecessor and are not offered any more. One that has taken them, and is
  /// not offered them when it comes again, hangs up for ever (E102). So it has them until it goes.
  func features(keptFor pid: Int?) -> Features {
    guard let before = parent.offered[request.name], before.isProcess(pid) else { return [] }
    let kept = Features(rawValue: before.features).intersection(VhostBackend.offloads)
      .subtracting(VhostBackend.offered(by: self))
    if !kept.isEmpty {
      parent.logger.notice(
        "port '\(request.name)': its front-end, which is that of the daemon before, is still offered \(kept.names.joined(separator: ", ")); another will not be"
      )
    }
    return kept
  }
}
