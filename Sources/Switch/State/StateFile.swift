internal import Dataplane
internal import Foundation
public import Linux
internal import SystemPackage

/// The file that a daemon leaves to its successor, whether it was ended or died: what it served, and where its rings were.
///
/// # Theory of operation
///
/// Two areas, each with a `SavedState` as JSON behind its number, length and checksum, are written in turn: the older one is
/// overwritten, its head last. So whatever moment the daemon dies at, one of them is whole, and the reader takes the whole one
/// with the higher number. Behind them lie the positions of packed rings, which workers note as they go (`RingPositions`).
/// The lock on the file says whether the predecessor lives.
public final class StateFile: Sendable {
  /// Why there is no state to go on from: a sentence for a person.
  public struct Fault: Error, CustomStringConvertible {
    public let description: String
  }

  private static let magic = Array("swivel's state 1".utf8)
  private static let firstArea = 4096
  private static let areaLength = 8 << 20
  private static let headLength = 24
  static let ringsOffset = firstArea + 2 * areaLength
  static let length = ringsOffset + RingPositions.byteCount

  let file: LockedFile
  /// The number of the area that was written last, and the bytes of it.
  private let last = Lock<(number: UInt64, bytes: [UInt8])>((0, []))
  let positions: RingPositions

  /// Opens the file and waits for a predecessor that is about to end.
  ///
  /// - Parameter report: told, in a sentence, what is not kept, or was not found.
  public convenience init(
    path: String, milliseconds: Int = 3000, report: (String) -> Void
  ) throws(SystemError) {
    try self.init(LockedFile(path: path, milliseconds: milliseconds), report: report)
  }

  /// Takes the file of a daemon that hands over, which has it locked.
  public convenience init(
    taking descriptor: OwnedFD, path: String, report: (String) -> Void
  ) throws(SystemError) {
    try self.init(LockedFile(taking: descriptor, path: path), isTaken: true, report: report)
  }

  /// - Parameter isTaken: another daemon uses it still, and goes on if this one does not.
  private init(
    _ file: LockedFile, isTaken: Bool = false, report: (String) -> Void
  ) throws(SystemError) {
    self.file = file
    let path = file.path
    let head = try file.read(StateFile.magic.count, at: 0)
    let isOurs = head == StateFile.magic
    if isTaken, !isOurs {
      throw SystemError(
        "take over \(path), which is no state of this version's", errno: .notSupported)
    }
    if !isOurs {
      if !head.allSatisfy({ $0 == 0 }) {
        report("\(path) is no state of this version's: starting without it")
      }
      try file.setLength(0)
    }
    try file.setLength(StateFile.length)
    if !isOurs { try file.write(StateFile.magic, at: 0) }
    do throws(SystemError) {
      positions = RingPositions(
        try Mapping(
          sharing: file.descriptor, offset: UInt64(StateFile.ringsOffset),
          length: UInt64(RingPositions.byteCount)))
    } catch {
      report(
        "where packed rings are is not kept for a restart (\(error)): put the state into a tmpfs, as /run mostly is"
      )
      positions = RingPositions(try Mapping.own(RingPositions.byteCount))
    }
  }

  // ---- Areas ----

  private static func offset(of number: UInt64) -> Int {
    firstArea + Int(number % 2) * areaLength
  }

  /// What the predecessor left; `nil`: nothing.
  public func load() throws -> SavedState? {
    var found: (number: UInt64, bytes: [UInt8])?
    var isDamaged = false
    for area in [UInt64(0), 1] {
      let offset = StateFile.offset(of: area)
      let head = try file.read(StateFile.headLength, at: offset)
      let words = (0..<3).map { word in
        head.dropFirst(8 * word).prefix(8).reversed().reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
      }
      let (number, length, sum) = (words[0], words[1], words[2])
      if number == 0 { continue }
      guard number % 2 == area, length <= UInt64(StateFile.areaLength - StateFile.headLength) else {
        isDamaged = true
        continue
      }
      let bytes = try file.read(Int(length), at: offset + StateFile.headLength)
      guard UInt64(bytes.count) == length, StateFile.checksum(number, bytes) == sum else {
        // One of the two may be: the daemon died as it wrote it.
        isDamaged = true
        continue
      }
      if number > found?.number ?? 0 { found = (number, bytes) }
    }
    guard let found else {
      if isDamaged { throw Fault(description: "the state in \(file.path) is damaged") }
      return nil
    }
    last.withLock { $0 = found }
    do {
      return try JSONDecoder().decode(SavedState.self, from: Data(found.bytes))
    } catch {
      throw Fault(description: "the state in \(file.path) can't be understood: \(error)")
    }
  }

  /// Leaves a state, unless it is the one that was left last.
  public func save(_ state: SavedState) throws {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    let bytes = [UInt8](try encoder.encode(state))
    guard bytes.count <= StateFile.areaLength - StateFile.headLength else {
      throw Fault(description: "a state of \(bytes.count) bytes has no room in \(file.path)")
    }
    try last.withLock { last in
      if last.bytes == bytes { return }
      let number = last.number + 1
      let offset = StateFile.offset(of: number)
      // The head is void while what it tells of is not whole.
      try file.write([UInt8](repeating: 0, count: StateFile.headLength), at: offset)
      try file.write(bytes, at: offset + StateFile.headLength)
      let words = [number, UInt64(bytes.count), StateFile.checksum(number, bytes)]
      let head = words.flatMap { word in (0..<8).map { UInt8(truncatingIfNeeded: word >> (8 * $0)) }
      }
      try file.write(head, at: offset)
      last = (number, bytes)
    }
  }

  /// FNV-1a, of number and bytes: against what happens, not against what is meant.
  private static func checksum(_ number: UInt64, _ bytes: [UInt8]) -> UInt64 {
    bytes.reduce(0xcbf2_9ce4_8422_2325 ^ number) { ($0 ^ UInt64($1)) &* 0x100_0000_01b3 }
  }
}
