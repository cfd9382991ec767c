import ControlAPI
import Foundation
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

  @Test func theSystemsRefusalIs500() async throws {
    try await Fixture.run { fixture in
      let reply = try fixture.ask("POST", "/v1/ports", #"{"name":"refused","tap":{"device":"t"}}"#)
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
    ("DELETE", "/v1/ports", "GET, POST, HEAD"), ("PUT", "/v1/ports/vm1", "GET, DELETE, HEAD"),
    ("POST", "/v1/macs", "GET, HEAD"), ("OPTIONS", "/metrics", "GET, HEAD"),
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
      let good = try fixture.ask("GET", "/v1/ports/v%6D1?x=y")
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
      "unknown key 'nmae' in the port; expected name, vhost-user, tap, mtu or macs (did you mean 'name'?)"
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
      // Where is in the parser's own words.
      "\($0)".contains("character 15")
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
