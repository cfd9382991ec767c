internal import ControlAPI

/// Makes ports of one kind. It is the kind's own attachment that does, made able to in Switch/<Kind>Port.swift: so the
/// switch finds it in the request, and has no list of kinds.
protocol PortMaker {
  /// Finds what would keep the port from being made, short of making it; throws one sentence for a person.
  func check() throws

  /// Makes the port, which does not serve yet (`SwitchPort.start`).
  ///
  /// - Parameter request: the whole request, that this attachment is part of.
  func makePort(_ request: PortRequest, in parent: Switch) throws -> any SwitchPort
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
