import ControlAPI
import Foundation
import Testing

extension EndToEnd {
  /// A Linux guest whose driver's addresses go through QEMU's intel-iommu.
  @Suite(.enabled(if: Machine.hasQEMU, "needs QEMU and busybox-static"))
  struct IOMMUs {
    let scratch: Scratch

    init() throws {
      scratch = try Scratch()
    }

    @Test(
      "a guest behind an IOMMU talks to one without; every translation comes from the front-end (E98)"
    )
    func talk() throws {
      let daemon = try Daemon(
        ports: [Daemon.vhost("vm1", in: scratch), Daemon.vhost("vm2", in: scratch)],
        scratch: scratch)
      let vm1 = try Guest("vm1", number: 1, in: scratch, options: ["--iommu"])
      let vm2 = try Guest("vm2", number: 2, in: scratch)
      try vm1.awaitBoot()
      try vm2.awaitBoot()
      try vm1.ping("192.0.2.2")
      try vm2.ping("2001:db8::1")
      try vm1.transfer(to: "vm2", at: "192.0.2.2", mebibytes: 1)
      try vm2.transfer(to: "vm1", at: "2001:db8::1", mebibytes: 1)

      let port = try daemon.port("vm1")
      #expect(port.vhostUser?.features.contains("VIRTIO_F_ACCESS_PLATFORM") == true)
      let iotlb = try #require(port.vhostUser?.iotlb)
      #expect(iotlb.updates > 0 && iotlb.misses > 0 && iotlb.invalidations > 0)
      #expect(try daemon.port("vm2").vhostUser?.iotlb == nil)
      try daemon.expectAccounted()
      try daemon.stop()
    }
  }
}
