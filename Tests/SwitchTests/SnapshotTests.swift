import ControlAPI
import Glibc
import Switch
import Testing
import VirtioDriver

extension SwitchTests {
  @Suite struct SnapshotTests {
    @Test("A port explains itself: waiting, connected, running, broken, waiting")
    func life() throws {
      let bench = try Bench()
      try bench.addPort("vm", queues: 2)
      var port = try bench.port("vm")
      #expect(port.state == .waiting && port.kind == .vhostUser)
      #expect(
        port.explanation
          == "waits for a front-end (QEMU, for one) to connect to \(bench.path("vm"))")
      #expect(port.vhostUser?.connections == 0 && port.vhostUser?.frontEndPID == nil)
      #expect(port.queues.map(\.index) == [0, 1, 2, 3])
      #expect(port.queues.map(\.direction) == [.receiveq, .transmitq, .receiveq, .transmitq])
      #expect(port.queues.allSatisfy { $0.state == .stopped && $0.size == 0 })

      let frontEnd = try FrontEnd.connect(path: bench.path("vm"))
      #expect(eventually { bench.fabric.port(named: "vm")?.state == .connected })
      port = try bench.port("vm")
      #expect(port.explanation.contains("has not started its rings"))
      #expect(port.vhostUser?.frontEndPID == Int(getpid()) && port.vhostUser?.connections == 1)

      var options = GuestPort.Options()
      options.queuePairs = 2
      options.ringSize = 128
      options.regionAddresses = [0, 1 << 32]
      let guest = try GuestPort(frontEnd: frontEnd, options: options)
      port = try bench.port("vm")
      #expect(port.state == .running)
      #expect(port.explanation == "carries frames: 2 receiveq(s), 2 transmitq(s) running")
      #expect(port.queues.allSatisfy { $0.state == .running && $0.size == 128 })
      #expect(port.queues.map(\.worker) == [nil, 0, nil, 0])
      let details = try #require(port.vhostUser)
      #expect(details.features.contains("VIRTIO_F_VERSION_1"))
      #expect(details.features.contains("VIRTIO_NET_F_MRG_RXBUF"))
      #expect(details.features.contains("VIRTIO_NET_F_MQ"))
      #expect(details.protocolFeatures.contains("VHOST_USER_PROTOCOL_F_REPLY_ACK"))
      #expect(details.deviceStatus.contains { $0.hasSuffix("DRIVER_OK") })
      #expect(details.memoryRegions.map(\.guestAddress) == [0, 1 << 32])
      #expect(details.memoryRegions.allSatisfy { $0.pageSize == 4096 && $0.size > 0 })
      #expect(bench.fabric.workers()[0].queues == ["vm/1", "vm/3"])

      try guest.announce(.station(3))
      #expect(try bench.port("vm").macs == 1)
      for index in 0..<4 { try guest.frontEnd.enableRing(index, false) }
      port = try bench.port("vm")
      #expect(port.state == .connected && port.explanation.contains("not enabled"))
      #expect(port.queues.allSatisfy { $0.state == .disabled })
      for index in 0..<4 { try guest.frontEnd.enableRing(index, true) }

      guest.pairs[1].transmitq.availIndex = 5000
      guest.pairs[1].transmitq.kick()
      #expect(eventually { bench.fabric.port(named: "vm")?.state == .broken })
      #expect(try bench.port("vm").queues.map(\.state) == [.running, .running, .running, .broken])
      #expect(eventually { bench.fabric.port(named: "vm")?.lastError != nil })

      guest.disconnect()
      #expect(eventually { bench.fabric.port(named: "vm")?.state == .waiting })
      port = try bench.port("vm")
      #expect(port.queues.allSatisfy { $0.state == .stopped && $0.error == nil })
      #expect(port.vhostUser?.features == [] && port.vhostUser?.memoryRegions == [])
      #expect(port.vhostUser?.frontEndPID == nil && port.vhostUser?.connections == 1)
      // What went wrong last is still there to be read, and the counters too.
      #expect(port.lastError?.contains("avail.idx") == true)
      #expect(port.received.frames == 1 && port.macs == 0)
      #expect(bench.fabric.workers()[0].queues == [])
      bench.expectBalance()
    }

    @Test("A guest that has stopped its rings is told from one that has not started any")
    func suspended() throws {
      let bench = try Bench()
      let guest = try bench.attach("vm")
      try guest.stop()
      var port = try bench.port("vm")
      #expect(
        port.state == .connected && port.explanation.contains("has stopped the rings that ran"))
      try guest.restart()
      #expect(try bench.port("vm").state == .running)
      // Another front-end begins anew.
      guest.disconnect()
      let next = try FrontEnd.connect(path: bench.path("vm"))
      #expect(eventually { (try? bench.port("vm").vhostUser?.connections) == 2 })
      port = try bench.port("vm")
      #expect(port.explanation.contains("has not started its rings"))
      withExtendedLifetime(next) {}
    }

    @Test("A driver that is ready, without any memory that is shared, is told from one that is not")
    func nothingShared() throws {
      let bench = try Bench()
      try bench.addPort("vm")
      let frontEnd = try FrontEnd.connect(path: bench.path("vm"))
      let options = GuestPort.Options()
      try frontEnd.negotiate(options.features, options.protocolFeatures)
      try frontEnd.setFeatures()
      try frontEnd.synchronize()
      #expect(try bench.port("vm").explanation.contains("has not started its rings"))
      try frontEnd.setStatus(15)
      try frontEnd.synchronize()
      let port = try bench.port("vm")
      #expect(port.state == .connected && port.explanation.contains("has shared none"))
    }

    @Test(
      "A socket whose file was removed is said to be gone, and made anew by a reload, whatever else that changes",
      arguments: [nil, "0600", "0660"])
    func removedSocket(permissions: String?) throws {
      let bench = try Bench()
      try bench.addPort("idle")
      let guests = try bench.guests(2)
      for name in ["idle", "g0"] { try #require(unlink(bench.path(name)) == 0) }
      let port = try bench.port("idle")
      #expect(port.state == .broken && port.explanation.contains("was removed"))
      // Who is connected notices nothing.
      #expect(try bench.port("g0").state == .running)
      var requests = bench.fabric.requests
      if let permissions {
        for place in requests.indices {
          guard var socket = requests[place].attachment as? VhostUserRequest else { continue }
          socket.permissions = permissions
          requests[place].attach(socket)
          requests[place].mtu = 9000
        }
      }
      let report = try bench.fabric.replacePorts(requests, owned: []) { _ throws(ServiceError) in }
      #expect(report.changed.count == (permissions == nil ? 0 : 3) && report.replaced == [])
      #expect(try bench.port("idle").state == .waiting)
      var status = stat()
      #expect(stat(bench.path("idle"), &status) == 0)
      #expect(String(status.st_mode & 0o777, radix: 8) == (permissions ?? "0660").dropFirst())
      let late = try bench.guest("idle")
      try late.announce(.station(9))
      #expect(eventually { !guests[0].collect().isEmpty && !guests[1].collect().isEmpty })
      guests[0].disconnect()
      let again = try bench.guest("g0")
      try again.announce(.station(8))
      #expect(eventually { !guests[1].collect().isEmpty })
    }

    @Test("What a guest did not accept is not shown")
    func features() throws {
      let bench = try Bench()
      var options = GuestPort.Options()
      options.features = [.protocolFeatures]
      options.protocolFeatures = [.rarp, .replyAck]
      let guest = try bench.attach("vm", options)
      let details = try #require(try bench.port("vm").vhostUser)
      #expect(details.features == ["VHOST_USER_F_PROTOCOL_FEATURES"])
      #expect(
        Set(details.protocolFeatures)
          == ["VHOST_USER_PROTOCOL_F_RARP", "VHOST_USER_PROTOCOL_F_REPLY_ACK"])
      try guest.stop()
      #expect(try bench.port("vm").queues.allSatisfy { $0.state == .stopped })
    }

    @Test("A configured MTU is shown, and the front-end's while there is one")
    func mtu() throws {
      let bench = try Bench()
      var options = GuestPort.Options()
      options.features.insert(.mtu)
      let guest = try bench.attach("vm", options, mtu: 9000)
      #expect(try bench.port("vm").mtu == 9000)
      try guest.frontEnd.setMTU(1500)
      #expect(try bench.port("vm").mtu == 1500)
      guest.disconnect()
      #expect(eventually { bench.fabric.port(named: "vm")?.state == .waiting })
      #expect(try bench.port("vm").mtu == 9000)
    }
  }
}
