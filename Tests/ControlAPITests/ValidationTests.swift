import ControlAPI
import Testing

@Suite struct ValidationTests {
  private func vhost(
    _ path: String = "/run/a.sock", mode: SocketMode? = nil, queues: Int? = nil,
    owner: String? = nil, group: String? = nil, permissions: String? = nil
  ) -> PortRequest {
    PortRequest(
      name: "a",
      vhostUser: VhostUserRequest(
        path: path, mode: mode, queues: queues, owner: owner, group: group,
        permissions: permissions))
  }

  @Test func goodRequestsPass() throws {
    try vhost().validate()
    try vhost("/" + String(repeating: "x", count: 106)).validate()
    try vhost(mode: .server, queues: 16, owner: "root", group: "0", permissions: "0660").validate()
    try vhost(mode: .client, queues: 1).validate()
    for name in ["a", "A.b_c-9", String(repeating: "x", count: 64), "..."] {
      try PortRequest(name: name, tap: TapRequest(device: "swivel0", queues: 16), mtu: 68)
        .validate()
    }
    try PortRequest(name: "a", tap: TapRequest(device: "fifteen-letters"), mtu: 65535).validate()
  }

  @Test(arguments: [
    "", ".", "..", "a b", "a/b", "ä", "a\n", String(repeating: "x", count: 65),
  ])
  func badNames(name: String) {
    #expect(
      PortRequest(name: name, tap: TapRequest(device: "t")).faults.map(\.keys) == [["name"]])
  }

  @Test("What is well written, but too much or of the other mode, is refused, not malformed")
  func refusedRatherThanMalformed() {
    func kind(_ request: VhostUserRequest) -> ServiceError.Kind? {
      do throws(ServiceError) {
        try PortRequest(name: "a", vhostUser: request).validate()
        return nil
      } catch { return error.kind }
    }
    #expect(kind(VhostUserRequest(path: "/a", memory: "65T")) == .refused)
    #expect(kind(VhostUserRequest(path: "/a", memory: "75921235M")) == .refused)
    #expect(kind(VhostUserRequest(path: "/a", memory: "64 T")) == .invalid)
    #expect(kind(VhostUserRequest(path: "/a", mode: .client, group: "kvm")) == .refused)
    #expect(kind(VhostUserRequest(path: "a", mode: .client, group: "kvm")) == .invalid)
  }

  @Test(arguments: [
    "", "relative", "./a", "/dir/", "/a\u{0}b", "/" + String(repeating: "x", count: 107),
  ])
  func badPaths(path: String) {
    #expect(vhost(path).faults.map(\.keys) == [["vhost-user", "path"]])
  }

  @Test(arguments: ["", ".", "..", "a/b", "a:b", "a b", "tap%d", "sixteen-letters-", "a\u{7f}"])
  func badDevices(device: String) {
    let request = PortRequest(name: "a", tap: TapRequest(device: device))
    #expect(request.faults.map(\.keys) == [["tap", "device"]])
  }

  @Test(arguments: [0, -1, 17, Int.max])
  func badQueues(queues: Int) {
    #expect(vhost(queues: queues).faults.map(\.keys) == [["vhost-user", "queues"]])
    let tap = PortRequest(name: "a", tap: TapRequest(device: "t", queues: queues))
    #expect(tap.faults.map(\.keys) == [["tap", "queues"]])
  }

  @Test(arguments: [67, 65536, -1])
  func badMTUs(mtu: Int) {
    let request = PortRequest(name: "a", tap: TapRequest(device: "t"), mtu: mtu)
    #expect(request.faults.map(\.keys) == [["mtu"]])
  }

  @Test(arguments: [0, -1, (1 << 24) + 1])
  func badMACs(macs: Int) {
    let request = PortRequest(name: "a", tap: TapRequest(device: "t"), macs: macs)
    #expect(request.faults.map(\.keys) == [["macs"]])
  }

  @Test func sizesOfMemory() {
    for (text, size) in [("1M", 1 << 20), ("64G", 64 << 30), ("64T", 64 << 40)]
      as [(String, UInt64)]
    {
      #expect(memorySize(text) == size)
    }
    for text in [
      "", "M", "1", "0M", "01G", "-1G", "+1G", "1.5G", "1K", "1g", "1GiB", " 1G", "65T",
      "67108865M",
      "99999999999999999999T",
    ] {
      #expect(memorySize(text) == nil, "\(text)")
      let request = PortRequest(name: "a", vhostUser: VhostUserRequest(path: "/a", memory: text))
      #expect(request.faults.map(\.keys) == [["vhost-user", "memory"]])
    }
    for regions in [0, -1, 513] {
      let request = PortRequest(
        name: "a", vhostUser: VhostUserRequest(path: "/a", regions: regions))
      #expect(request.faults.map(\.keys) == [["vhost-user", "regions"]])
    }
  }

  @Test func offloadsAreWordsThatHoldTogether() throws {
    func names(_ words: String...) -> [String]? {
      try? OffloadName.names(words).get().map(\.rawValue)
    }
    let all = OffloadName.allCases.map(\.rawValue)
    #expect(names("all") == all)
    #expect(names("none") == [])
    #expect(names("host") == all.filter { !$0.hasPrefix("guest") })
    #expect(names("host-tso4", "csum") == ["csum", "host-tso4"])
    #expect(names("guest-csum", "guest-tso6", "guest-ecn")?.count == 3)
    for name in all where name.hasSuffix("csum") { #expect(names(name) == [name]) }
    func fault(_ words: [String]) -> String? {
      let request = PortRequest(
        name: "a", vhostUser: VhostUserRequest(path: "/a", offloads: words))
      for fault in request.faults { #expect(fault.keys == ["vhost-user", "offloads"]) }
      return request.faults.first?.message
    }
    let choice =
      "vhost-user.offloads must be all, none or host, or a list of csum, host-tso4, host-tso6, host-ecn, "
      + "host-uso, guest-csum, guest-tso4, guest-tso6, guest-ecn, guest-uso4, guest-uso6, not "
    #expect(fault([]) == choice + "an empty list")
    #expect(fault(["tso4"]) == choice + "'tso4'")
    #expect(fault(["none", "csum"]) == choice + "'none' among others")
    #expect(
      fault(["csum", "guest-tso4"])
        == "vhost-user.offloads must name guest-csum where it names guest-tso4")
    #expect(
      fault(["csum", "host-ecn"])
        == "vhost-user.offloads must name host-tso4 or host-tso6 where it names host-ecn")
    #expect(fault(["all"]) == nil && fault(["guest-csum"]) == nil)
    func kind(_ words: [String], queues: Int) -> ServiceError.Kind? {
      let socket = VhostUserRequest(path: "/a", queues: queues, offloads: words)
      do {
        try PortRequest(name: "a", vhostUser: socket).validate()
        return nil
      } catch {
        return error.kind
      }
    }
    #expect(kind(["csum"], queues: 1) == nil)
    #expect(kind(["tso4"], queues: 1) == .invalid)
    // Words that exist and don't go together are no flaw of the request's form, unless there is one besides.
    #expect(kind(["host-tso4"], queues: 1) == .refused)
    #expect(kind(["host-tso4"], queues: 0) == .invalid)
  }

  @Test func exactlyOneKind() {
    #expect(PortRequest(name: "a").faults.map(\.message) == ["a port needs vhost-user or tap"])
    var both = vhost()
    both.tap = TapRequest(device: "t")
    #expect(both.faults.map(\.message) == ["a port has vhost-user or tap, not both"])
  }

  @Test func ownersAreForServers() {
    let request = vhost(mode: .client, owner: "u", group: "g", permissions: "0660")
    #expect(request.faults.map { $0.keys[1] } == ["owner", "group", "permissions"])
  }

  @Test func allFaultsAreReported() {
    let request = PortRequest(name: "", vhostUser: VhostUserRequest(path: "x", queues: 0), mtu: 1)
    #expect(request.faults.count == 4)
    #expect {
      try request.validate()
    } throws: {
      ($0 as? ServiceError)?.kind == .invalid && "\($0)".split(separator: ";").count == 4
    }
  }

  @Test(arguments: [("0660", 0o660), ("600", 0o600), ("0777", 0o777)])
  func permissions(text: String, bits: UInt32) {
    #expect(permissionBits(text) == bits)
  }

  @Test(arguments: ["", "7", "66", "0888", "rw", "1777", "07777", "-777", "0o660"])
  func badPermissions(text: String) {
    #expect(permissionBits(text) == nil)
    #expect(vhost(permissions: text).faults.map(\.keys) == [["vhost-user", "permissions"]])
  }

  @Test func unknownKeysAreExplained() {
    #expect(
      unknownKey("quues", in: "tap", expected: ["device", "queues"])
        == "unknown key 'quues' in tap; expected device or queues (did you mean 'queues'?)")
    #expect(
      unknownKey("colour", in: "tap", expected: ["device", "queues"])
        == "unknown key 'colour' in tap; expected device or queues")
    #expect(unknownKey("x\ny", in: "tap", expected: ["device"]).contains("'x?y'"))
  }

  @Test func countersAdd() {
    var sum = Counters(
      frames: 1, bytes: 2, bursts: 3, notifications: 4, replicas: 5, drops: ["a": 1])
    sum += Counters(
      frames: 10, bytes: 20, bursts: 30, notifications: 40, replicas: 50, drops: ["a": 2, "b": 3])
    #expect(
      sum
        == Counters(
          frames: 11, bytes: 22, bursts: 33, notifications: 44, replicas: 55,
          drops: ["a": 3, "b": 3]))
    #expect(sum.dropped == 6)
  }
}
