public import ControlAPI
internal import Dataplane
internal import Linux
internal import Logging
internal import SystemPackage

/// Ports come, go and change.
extension Switch {
  /// Finds what would keep a port from being made, short of making it.
  public static func check(_ request: PortRequest) throws(ServiceError) {
    try request.validate()
    let maker = try request.maker
    do {
      try maker.check()
    } catch {
      throw ServiceError(about: request, error)
    }
  }

  /// Most ports of a switch.
  public static var maximumPorts: Int { Dataplane.maximumPorts }

  public func addPort(_ request: PortRequest) throws(ServiceError) -> Port {
    let made = changes.withLock { _ in
      Result<any SwitchPort, ServiceError> { () throws(ServiceError) in
        try refuseDuplicate(of: request, in: allPorts)
        let port = try make(request, aside: false)
        portList.withLock { $0.append(port) }
        return port
      }
    }
    let port = try made.get()
    noteChange()
    logger.info("port '\(request.name)' added")
    return port.snapshot(macs: [:])
  }

  /// Makes a port and has it serve, but for what another port has until `SwitchPort.takePlace`.
  func make(_ request: PortRequest, aside: Bool) throws(ServiceError) -> any SwitchPort {
    try request.validate()
    let maker = try request.maker
    let port: any SwitchPort
    do {
      port = try maker.makePort(request, in: self, aside: aside)
    } catch {
      throw ServiceError(about: request, error)
    }
    do {
      try port.start()
    } catch {
      port.stop()
      throw ServiceError(about: request, error)
    }
    return port
  }

  func refuseDuplicate(
    of request: PortRequest, in ports: [any SwitchPort]
  ) throws(ServiceError) {
    for port in ports {
      if port.request.name == request.name {
        throw ServiceError(.conflict, "there is a port '\(request.name)' already")
      }
      if let claim = request.claim(takenBy: port.request) {
        throw ServiceError(
          .conflict, "\(claim.name) belongs to port '\(port.request.name)' already")
      }
      if let claim = request.claims.first(where: { port.alsoClaimed.contains(where: $0.collides) })
      {
        let old = port.request.claims.first { $0.thing == claim.thing }?.name ?? ""
        throw ServiceError(
          .conflict,
          "\(claim.name) belongs to port '\(port.request.name)' already, which found it as \(old)")
      }
      if request.isPlace(of: port.request), let socket = request.socket {
        throw ServiceError(
          .conflict,
          "\(socket.path) is the socket of port '\(port.request.name)' by another way to its directory"
        )
      }
    }
  }

  public func removePort(named name: String) throws(ServiceError) {
    let port = changes.withLock { _ in
      portList.withLock { ports in
        ports.firstIndex { $0.request.name == name }.map { ports.remove(at: $0) }
      }
    }
    // Not under the lock: a front-end that can keep its thread in the kernel keeps only this caller.
    if let port { end(port) }
    let found = port != nil
    if !found { throw ServiceError(.notFound, "there is no port \(quoted(name))") }
    logger.info("port '\(name)' removed")
  }

  /// Ends a port that is not to come back.
  func end(_ port: any SwitchPort) {
    port.stop()
    let name = port.request.name
    // Another of the name may have taken its place.
    changes.withLock { _ in
      if !allPorts.contains(where: { $0.request.name == name }) { positions?.release(name) }
    }
    noteChange()
  }

  public func changePort(named name: String, _ change: PortChange) throws(ServiceError) -> Port {
    let changed = changes.withLock { _ in
      Result<any SwitchPort, ServiceError> { () throws(ServiceError) in
        guard let port = allPorts.first(where: { $0.request.name == name }) else {
          throw ServiceError(.notFound, "there is no port \(quoted(name))")
        }
        let next = try port.request.changed(by: change)
        do {
          try port.update(to: next)
        } catch {
          throw ServiceError(about: next, error)
        }
        return port
      }
    }
    let port = try changed.get()
    noteChange()
    logger.info("port '\(name)' changed")
    return port.snapshot(macs: addressCounts)
  }
}

extension PortRequest {
  /// Whether the socket of both is the same file, however its directory is reached.
  func isPlace(of other: PortRequest) -> Bool {
    guard let own = socket?.path, let others = other.socket?.path else { return false }
    return Directory.place(own) == Directory.place(others)
  }
}

extension ServiceError {
  /// What a failure while a port was made or changed is to whoever asked for it: by what failed, so that nobody asks again
  /// and again for what can't be.
  init(about request: PortRequest, _ error: any Error) {
    if let known = error as? ServiceError {
      self = known
      return
    }
    let kind: Kind =
      switch error {
      case let error as SystemError: Kind(error)
      case let error as DataplaneError: error.isLimit ? .conflict : .failed
      default: .failed
      }
    self.init(kind, "port '\(request.name)': \(error)")
  }
}

extension ServiceError.Kind {
  init(_ error: SystemError) {
    self =
      switch error.errno {
      case .addressInUse, .fileExists, .resourceBusy: .conflict
      case .tooManyOpenFiles, .tooManyOpenFilesInSystem, .noMemory, .noSpace,
        .resourceTemporarilyUnavailable:
        .exhausted
      case .noSuchFileOrDirectory, .permissionDenied, .notPermitted, .notDirectory,
        .invalidArgument,
        .fileNameTooLong, .noSuchAddressOrDevice, .operationNotSupportedByDevice,
        .readOnlyFileSystem, .notSupported:
        .refused
      default: .failed
      }
  }
}
