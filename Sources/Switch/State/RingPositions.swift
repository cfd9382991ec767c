internal import Dataplane
internal import Linux

/// Where the packed rings of each port are, in memory that outlives the process: a place for each port, found by its name.
///
/// SAFETY: places are below the mapping's end, and each is one port's at a time; the mapping is held by whoever holds a place.
@safe final class RingPositions: Sendable {
  private static let ports = Dataplane.maximumPorts
  private static let nameLength = 64
  private static let rings = 2 * 16
  private static let placeLength = nameLength + rings * RingJournal.byteCount
  static let byteCount = ports * placeLength

  private struct Places {
    /// Those of ports of this process.
    var taken: [String: Int] = [:]
    /// Those that ports of the process before have left.
    var left: [String: Int] = [:]
    var free: [Int] = []
  }

  private let mapping: Mapping
  private let places: Lock<Places>

  init(_ mapping: Mapping) {
    self.mapping = mapping
    places = Lock(Places())
    var found = Places()
    for number in (0..<RingPositions.ports).reversed() {
      let name = name(number)
      if name.isEmpty { found.free.append(number) } else { found.left[name] = number }
    }
    places.withLock { $0 = found }
  }

  /// The records of a port.
  struct Place: Sendable {
    fileprivate let base: Int
    let keeper: Mapping

    func journal(of ring: Int) -> RingJournal {
      precondition((0..<RingPositions.rings).contains(ring))
      return unsafe RingJournal(
        keeper.base + base + RingPositions.nameLength + ring * RingJournal.byteCount)
    }

    /// Where the record of a ring lies.
    func address(of ring: Int) -> Int { Int(journal(of: ring).address) }
  }

  /// The place of a port: the one that a port of the name had in the process before, else an empty one. A port that is made to
  /// follow another of its name shares it.
  func place(of name: String) -> Place? {
    let number = places.withLock { places -> Int? in
      if let number = places.taken[name] { return number }
      if let number = places.left.removeValue(forKey: name) {
        places.taken[name] = number
        return number
      }
      // Those of ports that are yet to come are left alone while there are others.
      guard let number = places.free.popLast() ?? places.left.popFirst()?.value else { return nil }
      clear(number)
      setName(number, name)
      places.taken[name] = number
      return number
    }
    return number.map { Place(base: $0 * RingPositions.placeLength, keeper: mapping) }
  }

  /// The port has gone for good.
  func release(_ name: String) {
    places.withLock { places in
      guard let number = places.taken.removeValue(forKey: name) else { return }
      clear(number)
      places.free.append(number)
    }
  }

  private func bytes(_ number: Int) -> UnsafeMutableRawPointer {
    unsafe mapping.base + number * RingPositions.placeLength
  }

  private func name(_ number: Int) -> String {
    let bytes = unsafe UnsafeRawBufferPointer(
      start: bytes(number), count: RingPositions.nameLength)
    return unsafe String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
  }

  private func setName(_ number: Int, _ name: String) {
    let place = unsafe bytes(number)
    for (index, byte) in name.utf8.prefix(RingPositions.nameLength).enumerated() {
      unsafe place.storeBytes(of: byte, toByteOffset: index, as: UInt8.self)
    }
  }

  private func clear(_ number: Int) {
    let place = unsafe bytes(number)
    unsafe place.initializeMemory(as: UInt8.self, repeating: 0, count: RingPositions.placeLength)
  }
}
