internal import ControlAPI
internal import Dataplane
internal import Linux
internal import Logging

/// What becomes of the interface: it goes down, is renamed, moved or deleted, and comes back (decision 30).
extension TapPort {
  func inspect() {
    life.withLock { life in
      if life.isStopped { return }
      let state = interface.withLock { $0 }
      if life.flushes {
        life.flushes = false
        if !state.carries { parent.dataplane.flush(port: number) }
      }
      // Workers find it out as well, when they read: a deleted interface's queues would ring for ever.
      for queue in polled.map(\.queue)
      where parent.dataplane.fault(port: number, queue: queue) != nil {
        guard life.silent.insert(queue).inserted else { continue }
        parent.dataplane.stopWaiting(queue: queue, of: number)
        if state.condition != .gone { look(&life) }
      }
      // There may be another of its name already. And what keeps one from being used, a process that has its queues for
      // one, may end without a word.
      let isWaiting = state.whyUnusable != nil && ContinuousClock.now >= life.nextLook
      if state.condition == .gone, life.isNewlyGone || isWaiting {
        life.isNewlyGone = false
        tryAgain(&life)
      }
      guard case .elsewhere(let isUp) = state.condition else { return }
      // Nobody tells of it. Whether it is up costs little to ask, and its name a lock of the kernel's.
      let now = ContinuousClock.now
      if now < life.nextLook, device.withLock({ $0.tap?.isUp }) == isUp { return }
      life.nextLook = now + .seconds(1)
      look(&life)
    }
  }

  func inspectLink() {
    life.withLock { life in
      if life.isStopped { return }
      if interface.withLock({ $0.condition }) == .gone { tryAgain(&life) } else { look(&life) }
    }
  }

  /// Attaches again if there is something to attach to, and notes why it can't be done if it can't.
  private func tryAgain(_ life: inout Life) {
    life.nextLook = ContinuousClock.now + .seconds(1)
    var why: String?
    do {
      if try attachAgain(making: false, &life) { return }
    } catch {
      why = "\(error)"
    }
    let isNew = interface.withLock { [why] state in
      defer { state.whyUnusable = why }
      return state.whyUnusable != why
    }
    if isNew, let why, parent.allowsLine("\(request.name) \(why)") {
      parent.logger.warning("port '\(request.name)' can't have its interface back: \(why)")
    }
  }

  func heal() throws -> Bool {
    try life.withLock { life in
      if life.isStopped || interface.withLock({ $0.condition }) != .gone { return false }
      return try attachAgain(making: true, &life)
    }
  }

  /// Attaches to an interface of the name that was asked for, after the old one was deleted.
  ///
  /// - Parameter making: whether one is made where there is none.
  private func attachAgain(making: Bool, _ life: inout Life) throws -> Bool {
    guard let tap = request.tap else { return false }
    if !making, try LinkState.named(tap.device) == nil { return false }
    let next = try TapDevice(name: tap.device, queues: pairs, mtu: request.mtu)
    // It went at this very moment.
    if next.made, !making { return false }
    _ = parent.dataplane.stopQueues(Array(queues), of: number)
    life.silent = []
    device.withLock { $0 = Holding(tap: next, made: next.made) }
    do {
      try startQueues()
    } catch {
      // Nobody is to have the device then, this port the next time least of all.
      _ = parent.dataplane.stopQueues(Array(queues), of: number)
      device.withLock { $0 = Holding(tap: nil, made: false) }
      throw error
    }
    // Until it has been looked at: then floods begin again.
    interface.withLock { state in
      state.name = next.name
      state.condition = .down
      state.whyUnusable = nil
    }
    if interface.withLock({ $0.isHeld }) { enable(false) }
    look(&life)
    return true
  }

  /// Finds out what has become of the interface, and has frames go there or not.
  func look(_ life: inout Life) {
    guard let device = device.withLock({ $0.tap }), let presence = device.presence else { return }
    let old = interface.withLock { $0 }
    var new = old
    switch presence {
    case .here(let name, let link):
      new.name = name
      new.mtu = link.mtu
      new.condition = link.isUp ? link.hasCarrier ? .up : .noCarrier : .down
      new.whyDown = link.isUp ? nil : device.whyDown.map { "\($0)" }
    case .elsewhere(let name, let isUp):
      new.name = name
      new.mtu = nil
      new.condition = .elsewhere(isUp: isUp)
    case .gone: new.condition = .gone
    }
    take(new, after: old, &life)
  }

  private func take(_ new: InterfaceState, after old: InterfaceState, _ life: inout Life) {
    if new == old { return }
    var new = new
    if new.condition == .gone, old.condition != .gone {
      new.losses += 1
      life.isNewlyGone = true
    }
    interface.withLock { [new] in $0 = new }
    if new.carries != old.carries {
      parent.dataplane.setFloods(new.carries, port: number)
      if !new.carries {
        // What is known of it leads nowhere now, and may be reached in another way.
        parent.dataplane.flush(port: number)
        life.flushes = true
      }
    }
    let sentence = "port '\(request.name)': \(new.explanation(mtu: request.mtu))"
    if new.carries {
      parent.logger.info("\(sentence)")
    } else if parent.allowsLine(sentence) {
      parent.logger.warning("\(sentence)")
    }
  }

  var canBeCut: Bool { true }

  func cut(_ isCut: Bool) { hold { $0.isCut = isCut } }

  /// Changes what keeps frames from passing, whatever the interface is.
  func hold(_ change: (inout InterfaceState) -> Void) {
    life.withLock { life in
      let old = interface.withLock { $0 }
      var new = old
      change(&new)
      if life.isStopped || new == old { return }
      enable(!new.isHeld)
      take(new, after: old, &life)
    }
  }

  func enable(_ isEnabled: Bool) {
    for queue in queues { parent.dataplane.setEnabled(isEnabled, queue: queue, of: number) }
  }

  var alsoClaimed: [Claim] {
    let state = interface.withLock { $0 }
    // The name of one in another network namespace is free here.
    if case .elsewhere = state.condition { return [] }
    return TapRequest(device: state.name).claims
  }
}
