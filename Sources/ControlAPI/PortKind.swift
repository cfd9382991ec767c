/// The kinds of ports: the one list of them. Whoever has to know what there is asks here, and whatever is to be known
/// of one kind stands in a file of its own (`attachment`). docs/new-port-kind.md says what a new one needs.
///
/// The raw value is the kind's name wherever a user meets it: the key of a port in the configuration file and in the
/// body of `POST /v1/ports`, and `kind` in what the control interface answers. Messages list the kinds in this order.
public enum PortKind: String, Codable, Sendable, CaseIterable {
  case vhostUser = "vhost-user"
  case tap

  /// What a port of the kind is asked for with. Through it go its keys, rules and status.
  public var attachment: any Attachment.Type {
    switch self {
    case .vhostUser: VhostUserRequest.self
    case .tap: TapRequest.self
    }
  }
}
