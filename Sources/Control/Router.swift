internal import ControlAPI
internal import Logging

/// Says what answers which path and method. docs/openapi.yaml describes it; a test holds the two together.
struct Router: Sendable {
  let service: any SwitchService
  let logger: Logger
  /// Only what changes nothing is answered.
  var readOnly = false

  typealias Handler = (HTTPRequest) throws(ServiceError) -> HTTPReply

  /// - Parameter client: the process that asks, for the log.
  func reply(to request: HTTPRequest, from client: Int?) -> HTTPReply {
    guard let methods = methods(at: request.path) else {
      let path = quoted("/" + request.path.joined(separator: "/"))
      return .error(404, "there is nothing at \(path)")
    }
    // HEAD is GET without the body, which the connection leaves out.
    let name = request.method == "HEAD" ? "GET" : request.method
    guard let handler = methods.first(where: { $0.method == name })?.handler else {
      var allowed = methods.map(\.method)
      if allowed.contains("GET") { allowed.append("HEAD") }
      let list = allowed.joined(separator: ", ")
      var reply = HTTPReply.error(405, "\(quoted(request.method)) is not for this path; \(list) is")
      reply.headers.append(("Allow", list))
      return reply
    }
    if readOnly, name != "GET" {
      return .error(403, "this socket is for reading alone; changes go through control.socket")
    }
    let who = client.map { "process \($0)" } ?? "an unknown process"
    let what = "\(name) \(quoted("/" + request.path.joined(separator: "/")))"
    do throws(ServiceError) {
      let reply = try handler(request)
      if name != "GET" {
        logger.info("\(who) asked for \(what): \(reply.status)")
      }
      return reply
    } catch {
      logger.info("\(who) asked for \(what): \(error)")
      return .error(error)
    }
  }

  private func methods(at path: [String]) -> [(method: String, handler: Handler)]? {
    switch path {
    case ["v1", "ports"]:
      return [
        ("GET", { request throws(ServiceError) in .json(try ports(request)) }),
        ("POST", plain { request throws(ServiceError) in try addPort(request) }),
      ]
    case ["v1", "macs"]:
      return [
        ("GET", { request throws(ServiceError) in .json(try macs(request)) }),
        (
          "DELETE",
          { request throws(ServiceError) in
            let filter = try Filter(request, names: ["port"])
            try service.flushMACs(port: filter["port"])
            return HTTPReply(status: 204)
          }
        ),
      ]
    case ["v1", "workers"]:
      return [
        ("GET", plain { _ in .json(service.workers()) }),
        ("POST", plain { request throws(ServiceError) in try addWorker(request) }),
      ]
    case ["v1", "workers", "rebalance"]:
      return [("POST", plain { _ throws(ServiceError) in .json(try service.rebalance()) })]
    case ["v1", "stats"]: return [("GET", plain { _ in .json(service.stats()) })]
    case ["v1", "health"]: return [("GET", plain { _ in health() })]
    case ["v1", "log"]:
      return [
        ("GET", plain { _ in .json(service.logStatus()) }),
        ("PUT", plain { request throws(ServiceError) in try setLog(request) }),
      ]
    case ["v1", "reload"]:
      return [("POST", plain { _ throws(ServiceError) in .json(try service.reload()) })]
    case ["metrics"]:
      return [
        ("GET", plain { _ in .text(Metrics(of: service).text, type: Metrics.contentType) })
      ]
    default:
      guard path.count == 3, path[0] == "v1", !path[2].isEmpty else { return nil }
      switch path[1] {
      case "ports": return ofPort(path[2])
      case "macs": return ofMAC(path[2])
      case "workers": return ofWorker(path[2])
      default: return nil
      }
    }
  }

  /// Of what takes no query.
  func plain(_ handler: @escaping Handler) -> Handler {
    { request throws(ServiceError) in
      _ = try Filter(request, names: [])
      return try handler(request)
    }
  }

  private func ofPort(_ name: String) -> [(method: String, handler: Handler)] {
    [
      ("GET", plain { _ throws(ServiceError) in try port(name) }),
      (
        "PATCH",
        plain { request throws(ServiceError) in
          .json(try service.changePort(named: name, try PortChange(json: request.body)))
        }
      ),
      (
        "DELETE",
        plain { _ throws(ServiceError) in
          try service.removePort(named: name)
          return HTTPReply(status: 204)
        }
      ),
    ]
  }

  private func ofMAC(_ mac: String) -> [(method: String, handler: Handler)] {
    [
      (
        "PUT",
        plain { request throws(ServiceError) in
          let port = try SingleMember.string("port", in: request.body)
          return .json(try service.addMAC(mac, port: port))
        }
      ),
      (
        "DELETE",
        plain { _ throws(ServiceError) in
          try service.removeMAC(mac)
          return HTTPReply(status: 204)
        }
      ),
    ]
  }

  private func ports(_ request: HTTPRequest) throws(ServiceError) -> [Port] {
    let filter = try Filter(request, names: ["kind", "state"])
    let kind: PortKind? = try filter.word("kind")
    let state: PortState? = try filter.word("state")
    return service.ports().filter {
      (kind == nil || $0.kind == kind) && (state == nil || $0.state == state)
    }
  }

  private func macs(_ request: HTTPRequest) throws(ServiceError) -> [MACEntry] {
    let filter = try Filter(request, names: ["port", "mac"])
    let bytes = filter["mac"].map(addressBytes)
    if case .some(.none) = bytes {
      throw ServiceError(.invalid, "mac must be an address, not \(quoted(filter["mac"] ?? ""))")
    }
    if let name = filter["port"], service.port(named: name) == nil {
      // An empty list would hide a typing error.
      throw ServiceError(.notFound, "there is no port \(quoted(name))")
    }
    return service.macs().filter { entry in
      (filter["port"] == nil || entry.port == filter["port"])
        && (bytes == nil || addressBytes(entry.mac) == bytes ?? nil)
    }
  }

  private func health() -> HTTPReply {
    let health = service.health()
    return .json(health, status: health.healthy ? 200 : 503)
  }

  private func setLog(_ request: HTTPRequest) throws(ServiceError) -> HTTPReply {
    let word = try SingleMember.string("level", in: request.body)
    guard let level = LogLevel(rawValue: word) else {
      let words = LogLevel.allCases.map(\.rawValue).joined(separator: ", ")
      throw ServiceError(.invalid, "level must be one of \(words), not \(quoted(word))")
    }
    service.setLogLevel(level)
    return .json(service.logStatus())
  }

  private func port(_ name: String) throws(ServiceError) -> HTTPReply {
    guard let port = service.port(named: name) else {
      throw ServiceError(.notFound, "there is no port \(quoted(name))")
    }
    return .json(port)
  }

  private func addPort(_ request: HTTPRequest) throws(ServiceError) -> HTTPReply {
    let wanted = try PortRequest(json: request.body)
    try wanted.validate()
    let port = try service.addPort(wanted)
    var reply = HTTPReply.json(port, status: 201)
    reply.headers.append(("Location", "/v1/ports/\(port.name)"))
    return reply
  }
}
