import ControlAPI
import Switch

/// The switch as the control interface and the configuration see it: it knows what the daemon has given up.
struct ConfinedSwitch: SwitchService {
  let network: Switch
  let confinement: Confinement

  func addPort(_ request: PortRequest) throws(ServiceError) -> Port {
    try request.validate()
    try confinement.check(request)
    do throws(ServiceError) {
      return try network.addPort(request)
    } catch {
      guard error.kind == .failed, let why = confinement.lack(of: request) else { throw error }
      throw ServiceError(.failed, "\(error.message); \(why)")
    }
  }

  func stats() -> Stats {
    var stats = network.stats()
    stats.security = confinement.status
    return stats
  }

  func ports() -> [Port] { network.ports() }
  func port(named name: String) -> Port? { network.port(named: name) }
  func removePort(named name: String) throws(ServiceError) { try network.removePort(named: name) }
  func macs() -> [MACEntry] { network.macs() }
  func workers() -> [Worker] { network.workers() }
}
