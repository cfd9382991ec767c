internal import ControlAPI
internal import Linux

/// Makes ports of one kind. It is the kind's own attachment that does, made able to in Switch/<Kind>Port.swift: so the
/// switch finds it in the request, and has no list of kinds.
protocol PortMaker {
  /// Finds what would keep the port from being made, short of making it; throws one sentence for a person.
  func check() throws

  /// Makes the port, which does not serve yet (`SwitchPort.start`).
  ///
  /// - Parameters:
  ///   - request: the whole request, that this attachment is part of.
  ///   - aside: another port has what this one is to have, and goes on until `SwitchPort.takePlace`. Only asked for where
  ///     `canBePrepared`.
  func makePort(_ request: PortRequest, in parent: Switch, aside: Bool) throws -> any SwitchPort

  /// Makes the port that another process hands over, its queues held until `SwitchPort.letGo`. What it stands on stays the other's
  /// until `SwitchPort.own`.
  func takePort(
    _ handed: HandedPort, _ descriptors: HandedDescriptors, in parent: Switch
  ) throws -> any SwitchPort

  /// Whether a port can be made while another still has what it claims.
  var canBePrepared: Bool { get }

  /// The same with everything written out that holds where nothing is said, each value in one way: two that are alike
  /// then ask for the same, whatever stands in them.
  func spelledOut(_ configuration: Switch.Configuration) -> any Attachment

  /// Without what can change while the port is there: if two are alike then, one can become the other.
  var foundation: any Attachment { get }

  /// Most addresses of a port that says nothing of them; `nil`: as many as there is room for.
  func standardMACs(_ configuration: Switch.Configuration) -> Int?
}

extension PortMaker {
  func check() throws {}
}

extension PortRequest {
  /// What makes the port. That each kind can is for SwitchTests to see.
  var maker: any PortMaker {
    get throws(ServiceError) {
      if let maker = attachment as? any PortMaker { return maker }
      let kind = attachment.map { type(of: $0).kind.rawValue } ?? "no kind"
      throw ServiceError(.invalid, "port '\(name)': this switch makes no ports of \(kind)")
    }
  }
}

extension PortRequest {
  /// What the request comes to in a switch of this configuration, for comparing with another.
  func spelledOut(_ configuration: Switch.Configuration) -> PortRequest {
    var request = self
    guard let maker = try? maker else { return request }
    request.macs = macs ?? maker.standardMACs(configuration)
    request.attach(maker.spelledOut(configuration))
    request.link = link ?? .up
    return request
  }

  /// What of it can only change with the port. Of a request that is spelled out.
  var foundation: PortRequest {
    var request = self
    (request.mtu, request.macs, request.link) = (nil, nil, nil)
    if let maker = try? maker { request.attach(maker.foundation) }
    return request
  }
}
