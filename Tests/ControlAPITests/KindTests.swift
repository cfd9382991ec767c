import Testing

@testable import ControlAPI

/// What every kind of port has to keep, over all kinds that there are.
@Suite struct KindTests {
  /// Notes which keys are asked for, and has a value for each.
  private struct Recorder: FieldReader {
    typealias Failure = Never
    var asked: [String] = []

    mutating func requiredString(_ key: String) -> String {
      asked.append(key)
      return "text"
    }
    mutating func string(_ key: String) -> String? { requiredString(key) }
    mutating func integer(_ key: String) -> Int? {
      asked.append(key)
      return 1
    }
    mutating func words(_ key: String) -> [String]? { [requiredString(key)] }
    mutating func choice<Value: RawRepresentable<String> & CaseIterable>(
      _ key: String, as type: Value.Type
    ) -> Value? {
      asked.append(key)
      return type.allCases.first
    }
  }

  @Test(arguments: PortKind.allCases)
  func theTypesOfAKindAreItsOwn(kind: PortKind) {
    #expect(kind.attachment.kind == kind)
    #expect(kind.attachment.statusType.kind == kind)
  }

  @Test(arguments: PortKind.allCases)
  func everyKeyIsReadInItsOrder(kind: PortKind) {
    var recorder = Recorder()
    _ = kind.attachment.init(from: &recorder)
    #expect(recorder.asked == kind.attachment.keys)
  }

  /// So that the places of faults and of claims are found in a file.
  @Test(arguments: PortKind.allCases)
  func claimsAreByKeysThatThereAre(kind: PortKind) throws {
    var recorder = Recorder()
    let attachment = kind.attachment.init(from: &recorder)
    for keys in attachment.claims.map(\.keys) + attachment.faults.map(\.keys) {
      try #require(keys.count == 2)
      #expect(keys[0] == kind.rawValue && kind.attachment.keys.contains(keys[1]))
    }
  }

  @Test func noTwoKindsShareAKey() {
    let keys = PortKind.allCases.map { $0.attachment.statusType.key }
    #expect(Set(keys).count == keys.count)
    #expect(Set(PortRequest.keys).count == PortRequest.keys.count)
  }

  @Test func attachmentsAreComparedByValue() {
    let one = PortRequest(name: "a", tap: TapRequest(device: "t"))
    var other = one
    #expect(one == other)
    other.tap?.queues = 2
    #expect(one != other)
    other = PortRequest(name: "a", vhostUser: VhostUserRequest(path: "/t"))
    #expect(one != other && other.tap == nil)
    other.vhostUser = nil
    #expect(other == PortRequest(name: "a") && other.attachment == nil)
  }

  @Test func portsCollideByNameAndByWhatTheyClaim() {
    func tap(_ name: String, _ device: String) -> PortRequest {
      PortRequest(name: name, tap: TapRequest(device: device))
    }
    func vhost(_ name: String, _ path: String) -> PortRequest {
      PortRequest(name: name, vhostUser: VhostUserRequest(path: path))
    }
    #expect(tap("a", "t").collides(with: tap("a", "u")))
    #expect(tap("a", "t").claim(takenBy: tap("b", "t"))?.description == "TAP device 't'")
    #expect(vhost("a", "/t").claim(takenBy: vhost("b", "/t"))?.description == "socket path '/t'")
    #expect(!tap("a", "t").collides(with: tap("b", "u")))
    #expect(!tap("a", "/t").collides(with: vhost("b", "/t")))
  }

  @Test func socketsAreToldByWhoMakesThem() {
    let server = PortRequest(
      name: "a", vhostUser: VhostUserRequest(path: "/s", owner: "u", group: "g"))
    #expect(server.socket == PortSocket(path: "/s", isMade: true, owner: "u", group: "g"))
    let client = PortRequest(name: "a", vhostUser: VhostUserRequest(path: "/s", mode: .client))
    #expect(client.socket == PortSocket(path: "/s", isMade: false))
    #expect(PortRequest(name: "a", tap: TapRequest(device: "t")).socket == nil)
  }

  @Test func needsAreThoseOfAllKinds() {
    #expect(PortKind.needs.capabilities == ["net-admin"])
    #expect(PortKind.needs.devices == ["/dev/net/tun"])
    var sum = SystemNeeds(capabilities: ["a"], requests: [1], families: [1])
    sum += SystemNeeds(capabilities: ["b", "a"], devices: ["/d"], requests: [2, 1], families: [2])
    #expect(
      sum
        == SystemNeeds(
          capabilities: ["a", "b"], devices: ["/d"], requests: [1, 2], families: [1, 2]))
  }
}
