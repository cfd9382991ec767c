internal import Linux

/// Control's record of a port: which queues run, and where they are polled. Guarded by the data plane's lock; workers
/// see only the plans and outputs made from it, and the port's state.
@safe final class PortRecord {
  let pairs: Int
  let state: PortState
  /// Receiveq n at 2n, transmitq n at 2n + 1, as vhost-user numbers them; `nil`: it does not run. The last is the one for frames
  /// of control's own.
  var queues: [RunningQueue?]
  /// Where control puts those in, once it has, and where they come out.
  var entrance: OwnedFD?
  var exit: OwnedFD?
  /// Whose stations its frames come from and go to: a bridge domain or a VLAN.
  var domain: UInt16 = 0
  /// Behind it there may be a whole network: floods reach it first.
  let isUplink: Bool
  /// Bytes of the longest untagged frame the port takes.
  var frameLimit = Burst.maximumLength
  /// The addresses of a port that may have so many and no more: its state's, until the limit is changed.
  var roll: AddressRoll?
  /// The memory of a roll that came later.
  var ownRoll: Block?
  /// What control has learned on the port (`Dataplane.learn`); a worker's are with its queues' counters.
  var learned = LearningCounts()
  /// What workers have been given of it as a destination.
  var output: Block?
  /// Whether a flood is to reach the port while it is up, and whether it does.
  var takesFloods = true
  var isFlooded = false
  /// Whether workers have been told to record the flows that come from the port.
  var recordsFlows = false

  init(pairs: Int, state: PortState, isUplink: Bool = false) {
    self.pairs = pairs
    self.isUplink = isUplink
    self.state = state
    roll = state.roll
    queues = [RunningQueue?](repeating: nil, count: 2 * (pairs + 1))
  }

  /// Most addresses of the port, if there is a limit.
  var addressLimit: Int? { roll.map { $0.limit } }

  /// What was learned on the port since it was made.
  var learning: LearningCounts {
    (0...pairs).reduce(into: learned) { $0 += state.queue(2 * $1 + 1).counters.learning }
  }

  /// The table of flows while frames have more than one receiveq to go to, else `nil`.
  var activeFlows: FlowTable? {
    guard pairs > 1 else { return nil }
    let open = (0..<pairs).count { queues[2 * $0]?.isEnabled == true }
    return open > 1 ? state.flows : nil
  }

  /// Why a queue is broken, or was when it ran.
  func inspect(_ index: Int) -> QueueFault? {
    queues[index]?.inspect(state.queue(index)) ?? state.queue(index).counters.fault
  }

  /// Where this port's frames come from, as worker `worker` polls them, with their slots.
  func sources(port: Int, worker: Int) -> [(slot: Int, source: Plan.Source)] {
    let flows = activeFlows
    return (0...pairs).compactMap { pair in
      let index = 2 * pair + 1
      guard let queue = queues[index], queue.worker == worker else { return nil }
      let source = Plan.Source(
        queue: queue.queue, state: state.queue(index), serial: queue.serial, port: UInt16(port),
        pair: UInt16(pair), domain: domain, headerSize: queue.headerSize, offloads: queue.offloads,
        discards: !queue.isEnabled,
        mustPoll: queue.doorbell == nil, flows: pair < pairs ? flows : nil, roll: roll)
      return (queue.slot, source)
    }
  }

  /// The port as a destination, in memory of its own; `nil` when none of its receiveqs is open.
  func makeOutput(of port: Int, _ arena: Arena) throws(SystemError) -> Block? {
    let sinks = (0..<pairs).compactMap { pair -> Output.Sink? in
      guard let queue = queues[2 * pair], queue.isEnabled else { return nil }
      return Output.Sink(
        queue: queue.queue, state: state.queue(2 * pair), pair: UInt16(pair), port: UInt16(port))
    }
    if sinks.isEmpty { return nil }
    return try Output.make(
      sinks, pairs: pairs, limit: frameLimit, flows: sinks.count > 1 ? state.flows : nil, arena)
  }
}
