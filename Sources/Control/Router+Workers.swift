internal import ControlAPI

/// Workers are added, shown and removed.
extension Router {
  func addWorker(_ request: HTTPRequest) throws(ServiceError) -> HTTPReply {
    let cpu = try SingleMember.integer("cpu", in: request.body, range: WorkerRequest.cpus)
    let worker = try service.addWorker(WorkerRequest(cpu: cpu))
    var reply = HTTPReply.json(worker, status: 201)
    reply.headers.append(("Location", "/v1/workers/\(worker.id)"))
    return reply
  }

  func ofWorker(_ name: String) -> [(method: String, handler: Handler)] {
    [
      (
        "GET",
        plain { _ throws(ServiceError) in
          let number = try number(name)
          guard let worker = service.workers().first(where: { $0.id == number }) else {
            throw absent(name)
          }
          return .json(worker)
        }
      ),
      (
        "DELETE",
        plain { _ throws(ServiceError) in
          try service.removeWorker(try number(name))
          return HTTPReply(status: 204)
        }
      ),
    ]
  }

  /// A worker's number, written in the one way that it has.
  private func number(_ name: String) throws(ServiceError) -> Int {
    guard let number = Int(name), number >= 0, "\(number)" == name else { throw absent(name) }
    return number
  }

  private func absent(_ name: String) -> ServiceError {
    ServiceError(.notFound, "there is no worker \(quoted(name))")
  }
}
