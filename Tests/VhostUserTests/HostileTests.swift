import Glibc
import Linux
import SystemPackage
import Testing

@testable import VhostUser

@Suite struct HostileTests {
  /// Every request served, with a payload and descriptors that are due.
  private static func wellFormed(_ request: Request) throws -> ([UInt8], [OwnedFD])? {
    switch request {
    case .getFeatures, .setOwner, .resetOwner, .getProtocolFeatures, .getQueueNum, .resetDevice,
      .getMaxMemSlots, .getStatus:
      ([], [])
    case .setFeatures: (Features.version1.rawValue.bytes, [])
    case .setProtocolFeatures: (ProtocolFeatures.replyAck.rawValue.bytes, [])
    case .setStatus: (UInt64(3).bytes, [])
    case .netSetMTU: (UInt64(1500).bytes, [])
    case .sendRARP: (UInt64(0x0102).bytes, [])
    case .setVringNum, .setVringBase, .getVringBase, .setVringEnable: (FrontEnd.state(0, 1), [])
    case .setVringAddr: (FrontEnd.address(0).bytes, [])
    case .setVringKick, .setVringCall, .setVringErr:
      (UInt64(0).bytes, [try EventFD().descriptor])
    case .setLogFD: ([], [try EventFD().descriptor])
    case .setLogBase:
      (LogDescription(size: 4096, offset: 0).bytes, [try TestFile().descriptor])
    case .setMemTable:
      (MemoryTable(regions: [FrontEnd.region(0)]).bytes, [try TestFile().descriptor])
    case .addMemReg: (SingleRegion(FrontEnd.region(0)).bytes, [try TestFile().descriptor])
    case .remMemReg: (SingleRegion(FrontEnd.region(0)).bytes, [])
    default: nil
    }
  }

  private static let served = Request.allCases.filter { (try? wellFormed($0)) ?? nil != nil }

  @Test func `every request of the protocol features we know is served`() {
    #expect(HostileTests.served.count == 26)
  }

  @Test(arguments: HostileTests.served)
  func `HP-05, E66: each request's payload short and long`(request: Request) throws {
    let (payload, fds) = try #require(try HostileTests.wellFormed(request))
    let good = try FrontEnd()
    // Removing needs something to remove.
    if request == .remMemReg { try good.setMemory() }
    try good.send(request, payload, fds: fds)
    if request.hasOwnReply { #expect(try good.reply()?.code == request.rawValue) }
    try good.settle()
    #expect(try good.close() == .frontEndClosed)

    var wrong = [payload + [0], payload + [UInt8](repeating: 0, count: 4096 - payload.count)]
    if payload.isEmpty {
      // Nothing is read of what should not be there.
      for payload in wrong {
        let odd = try FrontEnd()
        try odd.send(request, payload, fds: fds)
        if request.hasOwnReply { #expect(try odd.reply()?.code == request.rawValue) }
        try odd.settle()
        #expect(try odd.close() == .frontEndClosed)
      }
      return
    }
    wrong += [[], Array(payload.dropLast())]
    for payload in wrong {
      let bad = try FrontEnd()
      try bad.send(request, payload, fds: fds)
      let error = try bad.failure()
      #expect(error.kind == .malformed)
      #expect(error.message.hasPrefix(request.name + ": a payload of \(payload.count) bytes"))
    }
  }

  @Test(arguments: HostileTests.served)
  func `HP-04, E67: each request with a descriptor too many or too few`(request: Request) throws {
    let (payload, fds) = try #require(try HostileTests.wellFormed(request))
    let file = try TestFile()
    let most = request == .remMemReg ? 1 : fds.count
    var wrong = [[OwnedFD](repeating: file.descriptor, count: most + 1)]
    wrong.append([OwnedFD](repeating: file.descriptor, count: 32))
    // A log without a descriptor is well-formed, and refused.
    if !fds.isEmpty, request != .setLogBase { wrong.append([]) }
    for fds in wrong {
      let frontEnd = try FrontEnd()
      try frontEnd.send(request, payload, fds: fds)
      let error = try frontEnd.failure()
      #expect(error.kind == .malformed)
      #expect(error.message.contains("descriptors attached"))
      #expect(file.openCount == 1)
    }
  }

  @Test(arguments: [4097, 1 << 20, Int(UInt32.max)])
  func `HP-05, E66: a payload beyond the maximum is not waited for`(size: Int) throws {
    let frontEnd = try FrontEnd()
    try frontEnd.send(code: 5, [1, 2, 3], size: size)
    let error = try frontEnd.failure()
    #expect(error.kind == .malformed)
    #expect(error.message == "SET_MEM_TABLE: a payload of \(size) bytes, at most 4096 are taken")
  }

  @Test(arguments: [
    (0, "protocol version 0, not 1"), (2, "protocol version 2, not 1"),
    (3, "protocol version 3, not 1"), (5, "a front-end's message has the reply flag set"),
  ])
  func `HP-10, E66: wrong version, reply flag`(flags: Int, what: String) throws {
    let frontEnd = try FrontEnd()
    try frontEnd.send(code: 1, flags: UInt32(flags))
    #expect(
      try frontEnd.failure() == ProtocolError(.malformed, "GET_FEATURES: \(what)"))
  }

  @Test(arguments: [0, 26, 35, 41, 44, 999, UInt32.max])
  func `HP-10, E71: unknown and unserved requests get an error, or end the session`(
    code: UInt32
  ) throws {
    let file = try TestFile()
    let asking = try FrontEnd()
    try asking.negotiate()
    for payload in [[], [1, 2, 3]] as [[UInt8]] {
      try asking.send(code: code, payload, fds: [file.descriptor], flags: 9)
      #expect(try asking.reply() == .init(code: code, flags: 5, payload: UInt64(1).bytes))
    }
    try asking.settle()
    #expect(file.openCount == 1)
    _ = try asking.close()

    let silent = try FrontEnd()
    try silent.send(code: code, fds: [file.descriptor], flags: 9)
    #expect(try silent.failure().kind == .refused, "REPLY_ACK was not negotiated")
    #expect(file.openCount == 1)
  }

  private static let ringRequests: [Request] = [
    .setVringNum, .setVringAddr, .setVringBase, .setVringKick, .setVringCall, .setVringErr,
    .setVringEnable, .getVringBase,
  ]

  @Test(arguments: HostileTests.ringRequests)
  func `HP-01: a ring that is not there, in every message`(request: Request) throws {
    for index in [4, 5, 128, 255, 256, 0xFFFF_FFFF] as [UInt64] {
      let payload: [UInt8]
      switch request {
      case .setVringAddr:
        var address = FrontEnd.address(0)
        address.index = UInt32(index)
        payload = address.bytes
      case .setVringKick, .setVringCall, .setVringErr:
        // Eight bits of index, bit 8 for "no descriptor", and bits that mean nothing.
        payload = (index << (index > 255 ? 9 : 0) | 0x100).bytes
      default: payload = VringState(index: UInt32(index), number: 1).bytes
      }
      let frontEnd = try FrontEnd()
      try frontEnd.negotiate()
      if request == .getVringBase {
        // Its reply has no room for an error.
        try frontEnd.send(request, payload, needReply: true)
        #expect(try frontEnd.failure().kind == .refused)
      } else {
        #expect(try frontEnd.acknowledged(request, payload) == 1, "\(request.name) \(index)")
        _ = try frontEnd.close()
      }
      let silent = try FrontEnd()
      try silent.send(request, payload)
      #expect(try silent.failure().kind == .refused)
    }
  }

  @Test func `HP-02: sizes of a split ring`() throws {
    let frontEnd = try FrontEnd()
    try frontEnd.negotiate()
    let cases: [(UInt32, UInt64)] = [
      (0, 1), (1, 0), (2, 0), (48, 1), (32_768, 0), (32_769, 1), (65_536, 1), (.max, 1),
      (1 << 31, 1), (256, 0), (256, 0),
    ]
    for (size, answer) in cases {
      #expect(
        try frontEnd.acknowledged(.setVringNum, FrontEnd.state(0, size)) == answer, "\(size)")
    }
    #expect(frontEnd.events.contains(.refused("SET_VRING_NUM: 48 is no power of two")))
    _ = try frontEnd.close()
  }

  @Test func `unknown flags and values of ring messages are refused`() throws {
    let frontEnd = try FrontEnd()
    try frontEnd.negotiate()
    #expect(try frontEnd.acknowledged(.setVringEnable, FrontEnd.state(0, 2)) == 1)
    #expect(
      try frontEnd.acknowledged(.setVringAddr, FrontEnd.address(0, flags: 2).bytes) == 1)
    _ = try frontEnd.close()
  }

  @Test(arguments: [Request.setVringKick, .setVringCall, .setVringErr])
  func `HP-08: a file, a directory, a socket or a pipe is no eventfd`(request: Request) throws {
    let frontEnd = try FrontEnd()
    try frontEnd.negotiate()
    let file = try TestFile()
    let directory = OwnedFD(taking: unsafe open("/tmp", O_RDONLY | O_DIRECTORY))
    var pipes: [CInt] = [0, 0]
    try #require(unsafe pipe(&pipes) == 0)
    let readEnd = OwnedFD(taking: pipes[0])
    let socket = try UnixSocket.pair().0
    for descriptor in [file.descriptor, directory, OwnedFD(taking: pipes[1]), readEnd, socket] {
      #expect(try frontEnd.acknowledged(request, UInt64(0).bytes, fds: [descriptor]) == 1)
    }
    #expect(file.openCount == 1)
    _ = try frontEnd.close()
  }

  @Test func `HP-08: a blocking eventfd is made non-blocking`() throws {
    let frontEnd = try FrontEnd()
    try frontEnd.negotiate()
    let event = try EventFD()
    try #require(fcntl(event.descriptor.raw, F_SETFL, 0) == 0)
    #expect(
      try frontEnd.acknowledged(.setVringCall, UInt64(0).bytes, fds: [event.descriptor]) == 0)
    #expect(fcntl(event.descriptor.raw, F_GETFL) & O_NONBLOCK != 0)
    _ = try frontEnd.close()
  }

  @Test func `requests whose protocol feature is not offered are refused`() throws {
    let requests: [Request] = [
      .getQueueNum, .setLogBase, .setLogFD, .sendRARP, .netSetMTU, .resetDevice, .getMaxMemSlots,
      .addMemReg, .remMemReg, .setStatus, .getStatus,
    ]
    for request in requests {
      let frontEnd = try FrontEnd(FakeBackend(protocolFeatures: [.replyAck]))
      let (payload, fds) = try #require(try HostileTests.wellFormed(request))
      try frontEnd.send(request, payload, fds: fds)
      let error = try frontEnd.failure()
      #expect(error.kind == .refused)
      #expect(error.message.hasSuffix("is not offered"))
    }
  }

  @Test func `HP-09: starting and stopping over and over leaks nothing`() throws {
    let frontEnd = try FrontEnd()
    let file = try TestFile()
    let table = MemoryTable(regions: [FrontEnd.region(0)]).bytes
    try frontEnd.negotiate()
    for round in 0..<200 {
      try frontEnd.send(.setMemTable, table, fds: [file.descriptor])
      try frontEnd.configure(round % 4)
      _ = try frontEnd.ask(.getVringBase, FrontEnd.state(round % 4, 0))
    }
    #expect(file.openCount == 2, "ours and the table's")
    _ = try frontEnd.close()
    #expect(file.openCount == 1)
  }
}
