import ControlAPI
import Foundation
import Linux
import Logging
import Testing

@testable import Control

@Suite struct RouterTests {
  @Test func everyGetServesWhatTheServiceSays() async throws {
    try await Fixture.run { fixture in
      let service = fixture.service
      #expect(try fixture.ask("GET", "/v1/ports").decoded() == service.ports())
      #expect(try fixture.ask("GET", "/v1/ports/vm1").decoded() == service.port(named: "vm1"))
      #expect(try fixture.ask("GET", "/v1/macs").decoded() == service.macs())
      #expect(try fixture.ask("GET", "/v1/workers").decoded() == service.workers())
      #expect(try fixture.ask("GET", "/v1/stats").decoded() == service.stats())
      let ports = try fixture.ask("GET", "/v1/ports")
      #expect(ports.status == 200)
      #expect(ports.headers["content-type"] == "application/json")
      let metrics = try fixture.ask("GET", "/metrics")
      #expect(metrics.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8")
      #expect(metrics.text == Metrics(of: service).text)
    }
  }

  @Test func portsAreAddedAndRemoved() async throws {
    try await Fixture.run { fixture in
      let body = #"{"name":"vm9","vhost-user":{"path":"/run/vm9.sock","mode":"client","queues":2}}"#
      let added = try fixture.ask("POST", "/v1/ports", body)
      #expect(added.status == 201)
      #expect(added.headers["location"] == "/v1/ports/vm9")
      #expect(try added.decoded(as: ControlAPI.Port.self).name == "vm9")
      let again = try fixture.ask("POST", "/v1/ports", body)
      #expect(again.status == 409)
      #expect(try again.error() == "there is a port 'vm9' already")
      let removed = try fixture.ask("DELETE", "/v1/ports/vm9")
      #expect(removed.status == 204)
      #expect(removed.body.isEmpty)
      #expect(removed.headers["content-length"] == nil)
      let missing = try fixture.ask("DELETE", "/v1/ports/vm9")
      #expect(missing.status == 404)
      #expect(try missing.error() == "there is no port 'vm9'")
    }
  }

  /// A client tries again where the server is to blame, and not where the request or the machine is.
  @Test(arguments: [
    (ServiceError.Kind.invalid, 400), (.notFound, 404), (.conflict, 409), (.refused, 422),
    (.failed, 500), (.exhausted, 503),
  ])
  func theStatusSaysWhoIsToBlame(kind: ServiceError.Kind, status: Int) async throws {
    try await Fixture.run { fixture in
      let body = #"{"name":"\#(kind.rawValue)","tap":{"device":"t"}}"#
      let reply = try fixture.ask("POST", "/v1/ports", body)
      #expect(reply.status == status)
    }
  }

  private func ports(_ fixture: Fixture, _ query: String) throws -> [String] {
    try fixture.ask("GET", "/v1/ports?" + query).decoded(as: [ControlAPI.Port].self).map(\.name)
  }

  private func macs(_ fixture: Fixture, _ query: String) throws -> [String] {
    try fixture.ask("GET", "/v1/macs?" + query).decoded(as: [MACEntry].self).map(\.port)
  }

  @Test func listsAreFiltered() async throws {
    try await Fixture.run { fixture in
      let taps = try ports(fixture, "kind=tap")
      #expect(taps == ["uplink"])
      #expect(try ports(fixture, "state=running&kind=vhost-user") == ["vm1"])
      #expect(try ports(fixture, "state=broken") == [])
      #expect(try macs(fixture, "port=vm1") == ["vm1"])
      #expect(try macs(fixture, "mac=52-54-00-12-34-57") == ["uplink"])
      for query in [
        "ports?state=asleep", "ports?colour=red", "macs?mac=x", "stats?x",
        "ports?kind=tap&kind=tap",
      ] {
        #expect(try fixture.ask("GET", "/v1/" + query).status == 400, "\(query)")
      }
      for name in ["vm11", "%C3%97", ""] {
        #expect(try fixture.ask("GET", "/v1/macs?port=\(name)").status == 404, "\(name)")
      }
    }
  }

  @Test func illHealthIs503() async throws {
    try await Fixture.run { fixture in
      #expect(try fixture.ask("GET", "/v1/health").status == 200)
      let ill = Health(healthy: false, problems: ["worker 0 is stuck"])
      fixture.service.condition.withLock { $0 = ill }
      let reply = try fixture.ask("GET", "/v1/health")
      #expect(reply.status == 503)
      #expect(try reply.decoded(as: Health.self) == ill)
    }
  }

  @Test func theLevelOfTheLogIsChanged() async throws {
    try await Fixture.run { fixture in
      let reply = try fixture.ask("PUT", "/v1/log", #"{"level":"warning"}"#)
      #expect(try reply.decoded(as: LogStatus.self).level == .warning)
      #expect(try fixture.ask("GET", "/v1/log").decoded(as: LogStatus.self).level == .warning)
    }
  }

  @Test func portsAreChanged() async throws {
    try await Fixture.run { fixture in
      let reply = try fixture.ask("PATCH", "/v1/ports/vm1", #"{"mtu":9000,"macs":null}"#)
      let port = try reply.decoded(as: ControlAPI.Port.self)
      #expect(port.mtu == 9000 && port.macLimit == nil)
      #expect(try fixture.ask("PATCH", "/v1/ports/nobody", #"{"mtu":9000}"#).status == 404)
      let typo = try fixture.ask("PATCH", "/v1/ports/vm1", #"{"mtuu":9000}"#)
      #expect(try typo.error().contains("did you mean 'mtu'?"))
    }
  }

  @Test func workersAreAddedShownAndRemoved() async throws {
    try await Fixture.run { fixture in
      let added = try fixture.ask("POST", "/v1/workers", #"{"cpu":3}"#)
      #expect(added.status == 201 && added.headers["location"] == "/v1/workers/1")
      #expect(try added.decoded(as: Worker.self).cpu == 3)
      #expect(try fixture.ask("GET", "/v1/workers/0").decoded() == fixture.service.workers()[0])
      #expect(try fixture.ask("DELETE", "/v1/workers/0").status == 204)
      let last = try fixture.ask("DELETE", "/v1/workers/1")
      #expect(last.status == 409)
      #expect(try last.error() == "worker 1 is the last one")
      for absent in ["7", "x", "-1", "+0", "00", "0x0", "99999999999999999999"] {
        #expect(try fixture.ask("GET", "/v1/workers/\(absent)").status == 404, "\(absent)")
        #expect(try fixture.ask("DELETE", "/v1/workers/\(absent)").status == 404, "\(absent)")
      }
      for wrong in [
        "", "{}", #"{"cpu":-1}"#, #"{"cpu":1024}"#, #"{"cpu":"3"}"#, #"{"cpus":3}"#, "3",
      ] {
        #expect(try fixture.ask("POST", "/v1/workers", wrong).status == 400, "\(wrong)")
      }
    }
  }

  /// Whoever may look can't change anything, by whatever method.
  @Test func behindTheSocketForReadingNothingChanges() async throws {
    let fixture = try Fixture()
    let server = ControlServer(
      socket: ControlSocket(path: fixture.path), service: fixture.service,
      logger: .init(label: "test") { _ in SwiftLogNoOpLogHandler() }, readOnly: true)
    try await server.start()
    for path in [
      "/v1/ports", "/v1/ports/vm1", "/v1/macs", "/v1/workers", "/v1/stats", "/v1/health", "/v1/log",
      "/metrics",
    ] {
      #expect(try fixture.ask("GET", path).status == 200, "\(path)")
    }
    for (method, path) in [
      ("POST", "/v1/ports"), ("PATCH", "/v1/ports/vm1"), ("DELETE", "/v1/ports/vm1"),
      ("DELETE", "/v1/macs"), ("PUT", "/v1/macs/52:54:00:12:34:56"),
      ("DELETE", "/v1/macs/52:54:00:12:34:56"), ("PUT", "/v1/log"), ("POST", "/v1/reload"),
      ("POST", "/v1/workers/rebalance"), ("POST", "/v1/workers"), ("DELETE", "/v1/workers/0"),
    ] {
      let reply = try fixture.ask(method, path, #"{"name":"a","tap":{"device":"t"}}"#)
      #expect(reply.status == 403, "\(method) \(path)")
      #expect(try reply.error().contains("for reading alone"))
    }
    #expect(fixture.service.ports() == FakeService.everything)
    await server.stop()
  }

  @Test func theSystemsFailureIs500() async throws {
    try await Fixture.run { fixture in
      let reply = try fixture.ask("POST", "/v1/ports", #"{"name":"broken","tap":{"device":"t"}}"#)
      #expect(reply.status == 500)
      #expect(try reply.error() == "open /dev/net/tun: Operation not permitted")
    }
  }

  @Test(arguments: [
    "/", "/v1", "/v1/ports/", "/v1/ports/nobody", "/v1/ports/vm1/queues", "/v2/ports", "/metrics/",
  ])
  func unknownPathsAre404(path: String) async throws {
    try await Fixture.run { fixture in
      let reply = try fixture.ask("GET", path)
      #expect(reply.status == 404)
      #expect(try reply.error().hasPrefix("there is no"))
    }
  }

  @Test(arguments: [
    ("DELETE", "/v1/ports", "GET, POST, HEAD"),
    ("PUT", "/v1/ports/vm1", "GET, PATCH, DELETE, HEAD"),
    ("POST", "/v1/macs", "GET, DELETE, HEAD"), ("GET", "/v1/reload", "POST"),
    ("OPTIONS", "/metrics", "GET, HEAD"),
  ])
  func wrongMethodsAre405WithAllow(method: String, path: String, allow: String) async throws {
    try await Fixture.run { fixture in
      let reply = try fixture.ask(method, path)
      #expect(reply.status == 405)
      #expect(reply.headers["allow"] == allow)
      #expect(try reply.error().contains(allow))
    }
  }

  @Test func headIsGetWithoutItsBody() async throws {
    try await Fixture.run { fixture in
      let get = try fixture.ask("GET", "/v1/macs")
      let head = try fixture.ask("HEAD", "/v1/macs")
      #expect(head.status == 200)
      #expect(head.headers["content-length"] == "\(get.body.count)")
      #expect(head.body.isEmpty)
    }
  }

  @Test func namesArePercentDecoded() async throws {
    try await Fixture.run { fixture in
      let good = try fixture.ask("GET", "/v1/ports/v%6D1")
      #expect(good.status == 200)
      let bad = try fixture.ask("GET", "/v1/ports/vm%2")
      #expect(bad.status == 400)
    }
  }

  @Test(arguments: [
    (#"{"name":"#, "the body is not JSON"),
    ("", "the body is empty"),
    ("[]", "the port must be an object, not an array"),
    (#"{"tap":{"device":"t"}}"#, "the key 'name' is missing in the port"),
    (
      #"{"nmae":"a"}"#,
      "unknown key 'nmae' in the port; expected name, vhost-user, tap, mtu, macs or link (did you mean 'name'?)"
    ),
    (
      #"{"name":"a","vhost-user":{"path":"/s","quues":1}}"#,
      "unknown key 'quues' in vhost-user; expected path, mode, queues, owner, group, permissions, "
        + "memory, regions or offloads "
        + "(did you mean 'queues'?)"
    ),
    (
      #"{"name":"a","vhost-user":{"path":"/s","offloads":[1]}}"#,
      "the key 'offloads' in vhost-user must be a string or an array of strings, not 1"
    ),
    (
      #"{"name":"a","vhost-user":{"path":"/s","offloads":{}}}"#,
      "the key 'offloads' in vhost-user must be a string or an array of strings, not an object"
    ),
    (
      #"{"name":"a","vhost-user":{"path":"/s","offloads":"off"}}"#,
      "vhost-user.offloads must be all, none or host, or a list of csum, host-tso4,"
    ),
    (#"{"name":"a","vhostUser":{"path":"/s"}}"#, "(did you mean 'vhost-user'?)"),
    (#"{"name":7}"#, "the key 'name' in the port must be a string, not 7"),
    (
      #"{"name":"a","tap":{"device":"t","queues":"2"}}"#,
      "the key 'queues' in tap must be a whole number, not '2'"
    ),
    (
      #"{"name":"a","mtu":1500.5,"tap":{"device":"t"}}"#,
      "the key 'mtu' in the port must be a whole number, not 1500.5"
    ),
    (
      #"{"name":"a","mtu":true,"tap":{"device":"t"}}"#,
      "the key 'mtu' in the port must be a whole number, not true"
    ),
    (
      #"{"name":"a","vhost-user":{"path":"/s","mode":"sever"}}"#,
      "the key 'mode' in vhost-user must be 'server' or 'client', not 'sever'"
    ),
    (#"{"name":"a","tap":{"device":"t",}}"#, "a name in double quotes is missing at byte 32"),
    (#"{"name":"a","name":"b","tap":{"device":"t"}}"#, "the name 'name' is there twice"),
    (#"{"name":"a"} x"#, "something follows the value"),
    (#"{"name":"a"}"#, "a port needs vhost-user or tap"),
    (#"{"name":"a b","tap":{"device":"t"}}"#, "name must be 1 to 64 characters"),
    (#"{"name":"a","tap":{"device":"t","queues":17}}"#, "tap.queues must be 1 to 16, not 17"),
  ])
  func wrongBodiesAreNamed(body: String, message: String) async throws {
    try await Fixture.run { fixture in
      let reply = try fixture.ask("POST", "/v1/ports", body)
      #expect(reply.status == 400)
      let error = try reply.error()
      #expect(error.contains(message), "got: \(error)")
      #expect(fixture.service.ports().count == FakeService.everything.count)
    }
  }

  @Test func aBrokenJSONSaysWhere() async throws {
    #expect {
      _ = try PortRequest(json: Array("{\"name\": \"a\",\n oops}".utf8))
    } throws: {
      "\($0)".contains("at byte 15")
    }
  }

  @Test func whatTheCodableTypeWritesIsRead() throws {
    let requests = [
      PortRequest(
        name: "a",
        vhostUser: VhostUserRequest(
          path: "/s", mode: .server, queues: 3, owner: "u", group: "g", permissions: "0660"),
        mtu: 9000, macs: 4096),
      PortRequest(name: "b", tap: TapRequest(device: "t", queues: 2)),
    ]
    for request in requests {
      let body = try JSONEncoder().encode(request)
      #expect(try PortRequest(json: Array(body)) == request)
    }
  }
}
