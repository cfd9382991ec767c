import ControlAPI
import Foundation
import Linux
import Testing

@testable import Switch

/// What a daemon leaves to its successor.
@Suite struct StateFileTests {
  let path = "/dev/shm/swivel-state-\(UUID().uuidString.prefix(13))"

  private func state(_ name: String) -> SavedState {
    SavedState(
      version: "1", boot: Switch.boot, time: 12,
      ports: [
        .init(
          request: PortRequest(
            name: name, vhostUser: VhostUserRequest(path: "/run/\(name).sock", queues: 2)),
          file: nil, frontEnd: .init(pid: 7, started: 8, features: 9))
      ], addresses: [.init(mac: "02:00:00:00:00:01", port: 0, age: 1.5)])
  }

  private func open() throws -> (StateFile, reports: [String]) {
    var reports: [String] = []
    let file = try StateFile(path: path, milliseconds: 0) { reports.append($0) }
    return (file, reports)
  }

  @Test("What was left last is found; of an empty file nothing is said")
  func lastOne() throws {
    defer { unlink(path) }
    do {
      let (file, reports) = try open()
      #expect(reports == [])
      #expect(try file.load() == nil)
      for name in ["a", "b", "c"] { try file.save(state(name)) }
    }
    for _ in 1...3 {
      let (file, reports) = try open()
      #expect(reports == [])
      #expect(try file.load() == state("c"))
      try file.save(state("d"))
      try file.save(state("c"))
    }
  }

  @Test(
    "Whatever byte a daemon dies at as it writes, its successor finds the state before, or the new one"
  )
  func anyByte() throws {
    defer { unlink(path) }
    do {
      let (file, _) = try open()
      try file.save(state("a"))
      try file.save(state("b"))
    }
    let before = try Data(contentsOf: URL(fileURLWithPath: path))
    do {
      let (file, _) = try open()
      _ = try file.load()
      try file.save(state("c"))
    }
    let after = try Data(contentsOf: URL(fileURLWithPath: path))
    let changed = changes(before, after)
    let (first, last) = (try #require(changed.first), try #require(changed.last))
    let head = first..<(first + 24)
    let file = try FileHandle(forUpdating: URL(fileURLWithPath: path))
    // Nothing else differs, and the whole file is megabytes.
    func put(_ image: Data) throws {
      try file.seek(toOffset: UInt64(first))
      try file.write(contentsOf: image[first...last])
    }
    // In the order in which it is written: the head is voided, then come the bytes, and the head.
    for written in [0, 8, 24] + (0...(last + 1 - head.upperBound)).map({ 24 + $0 }) {
      var image = before
      let voided = min(written, 24)
      image.replaceSubrange(first..<(first + voided), with: Data(count: voided))
      if written > 24 {
        let end = first + written
        image.replaceSubrange(head.upperBound..<end, with: after[head.upperBound..<end])
      }
      try put(image)
      let (state, _) = try open()
      #expect(try state.load() == self.state("b"), "\(written) bytes")
    }
    for count in 1..<24 {
      var image = after
      image.replaceSubrange((first + count)..<head.upperBound, with: Data(count: 24 - count))
      try put(image)
      let (file, _) = try open()
      let found = try file.load()
      #expect(found == state("b") || found == state("c"), "\(count) bytes of the head")
    }
  }

  /// Where two images of the file differ, in order.
  private func changes(_ one: Data, _ other: Data) -> [Int] {
    stride(from: 0, to: min(one.count, other.count), by: 4096).flatMap { start -> [Int] in
      let range = start..<min(start + 4096, one.count, other.count)
      return one[range] == other[range] ? [] : range.filter { one[$0] != other[$0] }
    }
  }

  @Test(
    "What is foreign is named and written over; what is damaged is named; neither keeps from starting"
  )
  func damaged() throws {
    defer { unlink(path) }
    try Data("something else, as it seems".utf8).write(to: URL(fileURLWithPath: path))
    do {
      let (file, reports) = try open()
      #expect(reports == ["\(path) is no state of this version's: starting without it"])
      #expect(try file.load() == nil)
      try file.save(state("a"))
    }
    var image = try Data(contentsOf: URL(fileURLWithPath: path))
    image[4096 + (8 << 20) + 60] ^= 1
    try image.write(to: URL(fileURLWithPath: path))
    let (file, _) = try open()
    let error = #expect(throws: StateFile.Fault.self) { try file.load() }
    #expect(error?.description == "the state in \(path) is damaged")
    try file.save(state("b"))
    #expect(try file.load() == state("b"))
  }

  @Test("Two daemons don't share a state; links and others' files are none")
  func one() throws {
    defer { unlink(path) }
    let (first, _) = try open()
    let error = #expect(throws: SystemError.self) { try open() }
    #expect(error?.isInUse == true)
    withExtendedLifetime(first) {}
    let link = path + "-link"
    try FileManager.default.createSymbolicLink(atPath: link, withDestinationPath: path)
    defer { unlink(link) }
    #expect(throws: SystemError.self) { try StateFile(path: link) { _ in } }
    #expect(throws: SystemError.self) { try StateFile(path: "/dev/null") { _ in } }
  }

  @Test("A place for rings is found by its port's name, and taken over when there is no other")
  func places() throws {
    let mapping = try Mapping.own(RingPositions.byteCount)
    func marked(_ place: RingPositions.Place?) -> UInt8? {
      place.map { UnsafeRawPointer(bitPattern: $0.address(of: 31))!.load(as: UInt8.self) }
    }
    do {
      let positions = RingPositions(mapping)
      for name in ["a", "b", "c"] {
        let place = try #require(positions.place(of: name))
        UnsafeMutableRawPointer(bitPattern: place.address(of: 31))!.storeBytes(
          of: UInt8(ascii: name.unicodeScalars.first!), as: UInt8.self)
      }
      positions.release("b")
    }
    let positions = RingPositions(mapping)
    #expect(marked(positions.place(of: "c")) == UInt8(ascii: "c"))
    #expect(marked(positions.place(of: "b")) == 0)
    for number in 0..<1022 { #expect(marked(positions.place(of: "p\(number)")) == 0) }
    #expect(positions.place(of: "one more") == nil)
    positions.release("p5")
    #expect(marked(positions.place(of: "a")) == 0, "others needed it")
  }
}
