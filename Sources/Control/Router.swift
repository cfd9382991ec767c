internal import ControlAPI
internal import Logging

/// Says what answers which path and method. docs/openapi.yaml describes it; a test holds the two together.
struct Router: Sendable {
  let service: any SwitchService
  let logger: Logger

  private typealias Handler = (HTTPRequest) throws(ServiceError) -> HTTPReply

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
        ("GET", { _ in .json(service.ports()) }),
        ("POST", { request throws(ServiceError) in try addPort(request) }),
      ]
    case ["v1", "macs"]: return [("GET", { _ in .json(service.macs()) })]
    case ["v1", "workers"]: return [("GET", { _ in .json(service.workers()) })]
    case ["v1", "stats"]: return [("GET", { _ in .json(service.stats()) })]
    case ["metrics"]:
      return [
        ("GET", { _ in .text(Metrics(of: service).text, type: Metrics.contentType) })
      ]
    default:
      guard path.count == 3, path[0] == "v1", path[1] == "ports", !path[2].isEmpty else {
        return nil
      }
      return [
        ("GET", { _ throws(ServiceError) in try port(path[2]) }),
        (
          "DELETE",
          { _ throws(ServiceError) in
            try service.removePort(named: path[2])
            return HTTPReply(status: 204)
          }
        ),
      ]
    }
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
