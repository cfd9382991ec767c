import ControlAPI
import Foundation
import Testing
import Yams

@testable import Control

/// Holds docs/openapi.yaml against the server and the types that both sides share.
@Suite struct OpenAPITests {
  private let document: Document

  init() throws {
    let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
      .deletingLastPathComponent().deletingLastPathComponent()
    let text = try String(
      contentsOf: root.appendingPathComponent("docs/openapi.yaml"), encoding: .utf8)
    document = Document(root: try #require(try Yams.load(yaml: text) as? [String: Any]))
  }

  /// A path of the document with what the fake service knows in the place of its parameters.
  private static func filled(_ path: String) -> String {
    path.replacingOccurrences(of: "{name}", with: "vm1").replacingOccurrences(
      of: "{mac}", with: "52:54:00:12:34:56"
    ).replacingOccurrences(of: "{id}", with: "0")
  }

  /// Every path and method of the document is served, and every one that is served is in the document.
  @Test func pathsAndMethodsAreTheServers() async throws {
    let paths = try document.object("paths")
    #expect(
      Set(paths.keys) == [
        "/v1/ports", "/v1/ports/{name}", "/v1/macs", "/v1/macs/{mac}", "/v1/workers",
        "/v1/workers/{id}", "/v1/workers/rebalance", "/v1/stats",
        "/v1/health", "/v1/reload", "/v1/log", "/metrics",
      ])
    let all = ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
    for (path, item) in paths {
      let described = Set(try #require(item as? [String: Any]).keys)
      // What one method has changed is not to be another's.
      try await Fixture.run { fixture in
        for method in all {
          let status = try fixture.ask(method, OpenAPITests.filled(path)).status
          #expect((status != 405) == described.contains(method.lowercased()), "\(method) \(path)")
          #expect(status != 404, "\(method) \(path)")
        }
      }
    }
  }

  /// What is served, in success and in refusal, fits the schema that the document gives for it.
  @Test(arguments: [
    ("GET", "/v1/ports", "", 200), ("GET", "/v1/ports/{name}", "", 200),
    ("GET", "/v1/macs", "", 200), ("GET", "/v1/workers", "", 200), ("GET", "/v1/stats", "", 200),
    ("POST", "/v1/ports", #"{"name":"n","tap":{"device":"t"}}"#, 201),
    ("POST", "/v1/ports", #"{"name":"vm1","tap":{"device":"t"}}"#, 409),
    ("POST", "/v1/ports", "{}", 400),
    ("POST", "/v1/ports", #"{"name":"broken","tap":{"device":"t"}}"#, 500),
    ("POST", "/v1/ports", #"{"name":"refused","tap":{"device":"t"}}"#, 422),
    ("DELETE", "/v1/ports/{name}", "", 204), ("PATCH", "/v1/ports/{name}", #"{"mtu":null}"#, 200),
    ("DELETE", "/v1/macs", "", 204), ("DELETE", "/v1/macs/{mac}", "", 204),
    ("PUT", "/v1/macs/{mac}", #"{"port":"vm1"}"#, 200),
    ("PUT", "/v1/macs/{mac}", #"{"port":"nobody"}"#, 404),
    ("GET", "/v1/health", "", 200), ("POST", "/v1/reload", "", 200),
    ("POST", "/v1/workers", #"{"cpu":3}"#, 201), ("POST", "/v1/workers", #"{"cpu":2}"#, 409),
    ("POST", "/v1/workers", #"{"cpu":99}"#, 422), ("POST", "/v1/workers", #"{"cpu":1024}"#, 400),
    ("GET", "/v1/workers/{id}", "", 200), ("DELETE", "/v1/workers/{id}", "", 204),
    ("POST", "/v1/workers/rebalance", "", 200), ("GET", "/v1/log", "", 200),
    ("PUT", "/v1/log", #"{"level":"debug"}"#, 200), ("PUT", "/v1/log", #"{"level":"x"}"#, 400),
  ])
  func repliesFitTheirSchemas(
    method: String, path: String, body: String, status: Int
  ) async throws {
    try await Fixture.run { fixture in
      let reply = try fixture.ask(
        method, OpenAPITests.filled(path), body)
      #expect(reply.status == status)
      let responses = try document.object("paths", path, method.lowercased(), "responses")
      let given = try #require(responses["\(status)"] ?? responses["default"])
      let response = try document.resolved(given)
      guard let content = response["content"] as? [String: Any] else {
        #expect(reply.body.isEmpty)
        return
      }
      let media = try #require(content["application/json"] as? [String: Any])
      let value = try JSONSerialization.jsonObject(with: reply.body)
      let schema = try #require(media["schema"])
      #expect(try document.faults(of: value, schema, at: "$") == [])
    }
  }

  /// Each schema has exactly the members that the type encodes: all of them when all are set, the
  /// required ones when only those are.
  @Test func schemasAreTheTypes() throws {
    let empty = Counters()
    let port = FakeService.everything[0]
    try check("Counters", full: empty, least: empty)
    try check(
      "Port",
      full: {
        var both = port
        both.tap = FakeService.everything[1].tap
        return both
      }(),
      least: ControlAPI.Port(name: "a", kind: .tap, state: .waiting, explanation: ""))
    try check(
      "Queue", full: port.queues[1], least: Queue(index: 0, direction: .receiveq, state: .stopped))
    try check(
      "VhostUserStatus", full: port.vhostUser,
      least: VhostUserStatus(path: "/s", mode: .client, queuePairs: 1))
    try check(
      "MemoryRegion", full: port.vhostUser?.memoryRegions[0],
      least: MemoryRegion(guestAddress: 0, size: 1, pageSize: 1))
    try check("IOTLBStatus", full: port.vhostUser?.iotlb, least: IOTLBStatus())
    let tap = TapStatus(device: "t", queues: 1, made: false)
    try check(
      "TapStatus", full: TapStatus(device: "t", queues: 1, made: false, mtu: 1500), least: tap)
    let stats = FakeService().stats()
    var least = stats
    (least.security, least.log) = (nil, nil)
    try check("Stats", full: stats, least: least)
    try check(
      "SecurityStatus", full: stats.security,
      least: SecurityStatus(user: "0", capabilities: [], seccomp: false))
    try check("PortStats", full: stats.ports[0], least: stats.ports[0])
    try check("MACTableStats", full: stats.macTable, least: stats.macTable)
    try check("LearningCounters", full: port.learning, least: LearningCounters())
    let worker = FakeService().workers()[0]
    try check("Worker", full: worker, least: worker)
    let mac = FakeService().macs()[0]
    try check("MACEntry", full: mac, least: mac)
    try check("LogStatus", full: FakeService().logStatus(), least: LogStatus(level: .info))
    try check("Health", full: FakeService().health(), least: Health(healthy: true))
    try check(
      "ReloadReport", full: ReloadReport(workers: WorkerChanges()), least: ReloadReport())
    try check("WorkerChanges", full: WorkerChanges(), least: WorkerChanges())
    try check("WorkerRequest", full: WorkerRequest(cpu: 1), least: WorkerRequest(cpu: 1))
    try check(
      "PortChange",
      full: PortChange(
        mtu: .standard, macs: .value(1), link: .value(.down), owner: .value("o"), group: .standard,
        permissions: .value("0600"), memory: .standard, regions: .value(2)), least: PortChange())
    try check("ErrorReply", full: ErrorReply(error: "e"), least: ErrorReply(error: "e"))
    try check(
      "PortRequest",
      full: PortRequest(
        name: "a", attachments: [VhostUserRequest(path: "/s"), TapRequest(device: "t")], mtu: 68,
        macs: 16, link: .down),
      least: PortRequest(name: "a"))
    try check(
      "VhostUserRequest",
      full: VhostUserRequest(
        path: "/s", mode: .server, queues: 1, owner: "o", group: "g", permissions: "0600",
        memory: "64G", regions: 8, offloads: ["none"]),
      least: VhostUserRequest(path: "/s"))
    try check(
      "TapRequest", full: TapRequest(device: "t", queues: 1), least: TapRequest(device: "t"))
    try checkCases("PortState", PortState.self)
    try checkCases("PortKind", PortKind.self)
    try checkCases("QueueState", QueueState.self)
    try checkCases("QueueDirection", QueueDirection.self)
    try checkCases("SocketMode", SocketMode.self)
    try checkCases("OffloadName", OffloadName.self)
    try checkCases("LogLevel", LogLevel.self)
  }

  @Test func requestKeysAreTheSharedOnes() throws {
    for (name, keys) in [
      ("PortRequest", PortRequest.keys), ("VhostUserRequest", VhostUserRequest.keys),
      ("TapRequest", TapRequest.keys), ("PortChange", PortChange.keys),
    ] {
      #expect(
        Set(try document.object("components", "schemas", name, "properties").keys) == Set(keys))
    }
  }

  /// What the schema of a request allows and what the server takes is the same.
  @Test(arguments: [
    (#"{"name":"a","tap":{"device":"t0"}}"#, true),
    (#"{"name":"a","tap":{"device":"t0","queues":16},"mtu":68,"macs":1}"#, true),
    (#"{"name":"a","tap":{"device":"..t"}}"#, true),
    (#"{"name":"a","tap":{"device":".."}}"#, false),
    (#"{"name":"a","tap":{"device":""}}"#, false), (#"{"name":"a","tap":{"device":"t:0"}}"#, false),
    (#"{"name":"a","tap":{"device":"t%d"}}"#, false),
    (#"{"name":"a","tap":{"device":"sixteen-letters-"}}"#, false),
    (#"{"name":"a"}"#, false), (#"{"tap":{"device":"t0"}}"#, false),
    (#"{"name":"","tap":{"device":"t0"}}"#, false), (#"{"name":".","tap":{"device":"t"}}"#, false),
    (#"{"name":"..","tap":{"device":"t"}}"#, false),
    (#"{"name":"...","tap":{"device":"t"}}"#, true),
    (#"{"name":".a","tap":{"device":"t"}}"#, true), (#"{"name":"..a","tap":{"device":"t"}}"#, true),
    (#"{"name":"a","tap":null}"#, false), (#"{"name":"a","tap":{"device":"t"},"mtu":null}"#, false),
    (#"{"name":"a","tap":{"device":"t"},"vhost-user":{"path":"/s"}}"#, false),
    (#"{"name":"a","vhost-user":{"path":"/s"}}"#, true),
    (#"{"name":"a","vhost-user":{"path":""}}"#, false),
    (#"{"name":"a","vhost-user":{"path":"s"}}"#, false),
    (#"{"name":"a","vhost-user":{"path":"/"}}"#, false),
    (#"{"name":"a","vhost-user":{"path":"/s/"}}"#, false),
    (#"{"name":"a","vhost-user":{"path":"/s\u0000"}}"#, false),
    (#"{"name":"a","vhost-user":{"path":"/s","owner":""}}"#, false),
    (#"{"name":"a","vhost-user":{"path":"/s","owner":"o","group":"g","permissions":"660"}}"#, true),
    (#"{"name":"a","vhost-user":{"path":"/s","permissions":"7660"}}"#, false),
    (#"{"name":"a","vhost-user":{"path":"/s","permissions":"0668"}}"#, false),
    (#"{"name":"a","vhost-user":{"path":"/s","mode":"client"}}"#, true),
    (#"{"name":"a","vhost-user":{"path":"/s","mode":"client","group":"g"}}"#, false),
    (#"{"name":"a","vhost-user":{"path":"/s","mode":"server","group":"g"}}"#, true),
    (#"{"name":"a","vhost-user":{"path":"/s","memory":"64T","regions":512}}"#, true),
    (#"{"name":"a","vhost-user":{"path":"/s","memory":"0M"}}"#, false),
    (#"{"name":"a","vhost-user":{"path":"/s","memory":"1K"}}"#, false),
    (#"{"name":"a","vhost-user":{"path":"/s","regions":513}}"#, false),
    (#"{"name":"a","vhost-user":{"path":"/s","queues":0}}"#, false),
    (#"{"name":"a","vhost-user":{"path":"/s"},"mtu":1500.0}"#, true),
    (#"{"name":"a","vhost-user":{"path":"/s"},"mtu":67}"#, false),
    (#"{"name":"a","vhost-user":{"path":"/s"},"macs":16777217}"#, false),
  ])
  func theSchemaOfARequestIsTheRule(body: String, isTaken: Bool) async throws {
    let value = try JSONSerialization.jsonObject(with: Data(body.utf8))
    let schema = ["$ref": "#/components/schemas/PortRequest"]
    #expect(try document.faults(of: value, schema, at: "$").isEmpty == isTaken)
    try await Fixture.run { fixture in
      let reply = try fixture.ask("POST", "/v1/ports", body)
      #expect((isTaken ? [201] : [400, 422]).contains(reply.status))
    }
  }

  @Test(arguments: [
    ("{}", false), (#"{"mtu":1500}"#, true), (#"{"mtu":null,"group":null}"#, true),
    (#"{"owner":""}"#, false), (#"{"mtu":"1500"}"#, false), (#"{"name":"b"}"#, false),
  ])
  func theSchemaOfAChangeIsTheRule(body: String, isTaken: Bool) async throws {
    let value = try JSONSerialization.jsonObject(with: Data(body.utf8))
    let schema = ["$ref": "#/components/schemas/PortChange"]
    #expect(try document.faults(of: value, schema, at: "$").isEmpty == isTaken)
    var request: PortRequest? = PortRequest(name: "a", vhostUser: VhostUserRequest(path: "/s"))
    do {
      request = try request?.changed(by: PortChange(json: Array(body.utf8)))
    } catch {
      request = nil
    }
    #expect((request != nil) == isTaken)
  }

  /// The checker itself must be able to say no.
  @Test func theCheckerFindsFaults() throws {
    let schema = ["$ref": "#/components/schemas/MACEntry"]
    let good: [String: Any] = ["mac": "52:54:00:12:34:56", "port": "a", "age": 1, "pinned": true]
    #expect(try document.faults(of: good, schema, at: "$") == [])
    for (key, bad) in [("mac", "zz"), ("age", "1"), ("age", -1), ("port", "a b"), ("extra", 1)]
      as [(String, Any)]
    {
      var value = good
      value[key] = bad
      #expect(try document.faults(of: value, schema, at: "$").count == 1, "\(key)")
    }
    var missing = good
    missing["age"] = nil
    #expect(try document.faults(of: missing, schema, at: "$") == ["$.age is missing"])
  }

  private func check(_ name: String, full: some Encodable, least: some Encodable) throws {
    let schema = try document.object("components", "schemas", name)
    let properties = try #require(schema["properties"] as? [String: Any])
    #expect(try keys(of: full) == Set(properties.keys), "\(name)")
    #expect(try keys(of: least) == Set(schema["required"] as? [String] ?? []), "\(name)")
    #expect(schema["additionalProperties"] as? Bool == false, "\(name)")
  }

  private func checkCases<Value: CaseIterable & RawRepresentable<String>>(
    _ name: String, _ type: Value.Type
  ) throws {
    let schema = try document.object("components", "schemas", name)
    #expect(schema["enum"] as? [String] == type.allCases.map(\.rawValue), "\(name)")
  }

  private func keys(of value: some Encodable) throws -> Set<String> {
    let object = try JSONSerialization.jsonObject(with: JSONEncoder().encode(value))
    return Set(try #require(object as? [String: Any]).keys)
  }
}
