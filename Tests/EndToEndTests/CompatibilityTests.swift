import ControlAPI
import Foundation
import Testing

extension EndToEnd {
  /// Guests whose drivers negotiate one thing, and a peer that negotiated another.
  @Suite(.enabled(if: Machine.hasQEMU, "needs QEMU and busybox-static"))
  struct Compatibility {
    /// The folder for the rows of docs/compatibility.md; with it all rows run, without it a few.
    static let results = ProcessInfo.processInfo.environment["SWIVEL_COMPATIBILITY"]

    let scratch: Scratch
    let daemon: Daemon
    let peer: Guest

    init() throws {
      scratch = try Scratch()
      daemon = try Daemon(
        ports: [
          Daemon.vhost(FrontEnd.ports[0], in: scratch, queues: 8),
          Daemon.vhost(FrontEnd.ports[1], in: scratch, queues: 8, offloads: "host"),
          Daemon.vhost("vm2", in: scratch),
        ], scratch: scratch)
      peer = try Guest("vm2", number: 2, in: scratch)
    }

    @Test("whatever a front-end negotiates, it talks to one that negotiated otherwise")
    func matrix() throws {
      for frontEnd in FrontEnd.all where frontEnd.smoke || Compatibility.results != nil {
        var row = Row()
        do {
          try examine(frontEnd, &row)
        } catch {
          row.cells.append("**fails**")
          Issue.record("\(frontEnd.adapter) \(frontEnd.title): \(error)\n\(daemon.log)")
        }
        try row.write(frontEnd)
        try? leave(frontEnd)
      }
      try daemon.expectAccounted()
      try daemon.stop()
    }

    /// Boots the front-end's guest and makes it and its peer talk.
    private func examine(_ frontEnd: FrontEnd, _ row: inout Row) throws {
      let whole = Compatibility.results != nil
      let guest = try Guest(frontEnd.port, number: 1, in: scratch, options: frontEnd.guestOptions)
      defer { guest.end() }
      try guest.awaitBoot()
      try peer.awaitBoot()
      // The guest of the row before had the same addresses, and on another port another card.
      try peer.run("ip neigh flush dev eth0; ip -6 neigh flush dev eth0")
      let features = try daemon.port(frontEnd.port).vhostUser?.features ?? []
      row.features = features
      for (feature, expected) in frontEnd.expectations.sorted(by: { $0.key < $1.key }) {
        guard features.contains(feature) == expected else {
          throw Failure("\(feature) is \(expected ? "not among" : "among") \(features)")
        }
      }

      if let mode = frontEnd.xdp { try guest.run("xdp eth0 \(mode)") }
      if frontEnd.mtu > 1500 { try peer.run("ip link set eth0 mtu \(frontEnd.mtu)") }
      let most = frontEnd.mtu - 28
      var sizes = [0, 1, 18, 19, 64, 100, 101, 102, 103, 512, 1000, most - 1, most]
      if whole { sizes = Array(stride(from: 0, to: most, by: most / 60)) + sizes }
      try guest.sweep("192.0.2.2", sizes: sizes)
      row.cells.append("0…\(most)")
      let most6 = frontEnd.mtu - 48
      try peer.sweep("2001:db8::1", sizes: [0, 56, most6 / 2, most6])
      row.cells.append("0…\(most6)")
      guard try guest.fragments() == 0, try peer.fragments() == 0 else {
        throw Failure("datagrams went in pieces")
      }
      let before = try peer.retransmissions()
      try guest.exchange(
        with: peer, at: "192.0.2.2", own: "2001:db8::1", mebibytes: whole ? frontEnd.mebibytes : 4)
      row.cells.append("\(whole ? frontEnd.mebibytes : 4) MiB")
      let again = try guest.retransmissions() + peer.retransmissions() - before
      if frontEnd.mtu < 1500 { try expectLimit(guest, frontEnd.mtu) }
      row.cells.append("\(again)")
      row.cells.append("ok")
    }

    /// Nothing larger than its MTU reaches the guest: it is dropped by name. What fits does.
    private func expectLimit(_ guest: Guest, _ mtu: Int) throws {
      let port = try daemon.port(guest.name)
      guard port.mtu == mtu else { throw Failure("the port's MTU is \(port.mtu ?? 0)") }
      func dropped() throws -> UInt64 { try daemon.port(guest.name).sent.drops["exceeds_mtu"] ?? 0 }
      let before = try dropped()
      try peer.sweep("192.0.2.1", sizes: [mtu - 28])
      guard try dropped() == before else { throw Failure("a frame that fits was dropped") }
      _ = try peer.run("ping -c 1 -W 1 -s \(mtu - 27) 192.0.2.1; true")
      guard try dropped() == before + 1 else {
        throw Failure("no drop for exceeds_mtu: \(try daemon.port(guest.name).sent.drops)")
      }
    }

    /// Makes everything as it was before the guest came.
    private func leave(_ frontEnd: FrontEnd) throws {
      if frontEnd.mtu > 1500 { try peer.run("ip link set eth0 mtu 1500") }
      try wait(upTo: 10, for: "\(frontEnd.port) to wait again") {
        try daemon.port(frontEnd.port).state == .waiting
      }
    }

    /// A line of the table.
    private struct Row {
      var features: [String] = []
      var cells: [String] = []

      func write(_ frontEnd: FrontEnd) throws {
        guard let folder = Compatibility.results else { return }
        let cells =
          self.cells.count < 5 ? Array((self.cells + ["", "", "", ""]).prefix(5)) : self.cells
        try Table(folder: folder, name: "guests").add(
          [frontEnd.adapter, "`\(frontEnd.title)`"] + cells + [Table.short(features)])
      }
    }
  }
}

/// A table of docs/compatibility.md that grows by a line with each row that was examined.
struct Table {
  var folder: String
  var name: String

  func add(_ cells: [String]) throws {
    let path = "\(folder)/\(name)"
    if !FileManager.default.fileExists(atPath: path) {
      guard FileManager.default.createFile(atPath: path, contents: nil) else {
        throw Failure("cannot write \(path)")
      }
    }
    let file = try FileHandle(forWritingTo: URL(filePath: path))
    try file.seekToEnd()
    try file.write(contentsOf: Data("| \(cells.joined(separator: " | ")) |\n".utf8))
    try file.close()
  }

  /// Features without what all their names begin with, and without those that say nothing of frames.
  static func short(_ features: [String]) -> String {
    features.filter { !["VHOST_USER_F_PROTOCOL_FEATURES"].contains($0) }
      .map { $0.replacing(/^VIRTIO_(NET_F|RING_F|F)_/, with: "") }.joined(separator: ", ")
  }
}
