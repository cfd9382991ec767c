import ControlAPI
import Linux
import Switch
import Testing
import VirtioDriver

/// One way of being a guest.
struct Shape: Sendable, CustomStringConvertible {
  var mergeable = true
  var version1 = true
  var eventIndex = true
  var indirect = true
  var segments = 1
  var regions = 1
  var ringSize = 256

  var description: String {
    "\(mergeable ? "" : "no ")merging, \(version1 ? "" : "legacy, ")\(eventIndex ? "" : "no ")event index, \(indirect ? "" : "no ")indirect, \(segments) segments, \(regions) regions, rings of \(ringSize)"
  }

  /// Longest frame of the test: what one receive buffer holds where buffers can't be merged.
  var longest: Int { mergeable && ringSize >= 16 ? 9000 : 1518 }

  var options: GuestPort.Options {
    var options = GuestPort.Options()
    var features: VirtioFeatures = [.protocolFeatures, .mq]
    if mergeable { features.insert(.mrgRxbuf) }
    if version1 { features.insert(.version1) }
    if eventIndex { features.insert(.eventIdx) }
    if indirect { features.insert(.indirectDesc) }
    options.features = features
    options.ringSize = ringSize
    options.transmitBufferLength = 9012
    // A direct chain must fit the ring.
    options.transmitLayout = .init(
      pieces: indirect ? segments : min(segments, ringSize), indirect: indirect)
    options.regionAddresses = Array([0, 1 << 32, 5 << 32].prefix(regions))
    return options
  }
}

extension SwitchTests {
  @Suite struct ShapeTests {
    /// Every pair of values of two of these options occurs in some row.
    static let shapes: [Shape] = {
      let sizes = [2, 4, 8, 16, 64, 256, 1024]
      let counts = [1, 2, 3]
      return Pairwise(widths: [2, 2, 2, 2, 3, 3, sizes.count], rules: []).rows().map { row in
        Shape(
          mergeable: row[0] == 1, version1: row[1] == 1, eventIndex: row[2] == 1,
          indirect: row[3] == 1, segments: [1, 2, 5][row[4]], regions: counts[row[5]],
          ringSize: sizes[row[6]])
      }
    }()

    @Test("Every pair of options is in the table")
    func table() {
      var seen: Set<String> = []
      for shape in Self.shapes {
        let values = [
          "m\(shape.mergeable)", "v\(shape.version1)", "e\(shape.eventIndex)",
          "i\(shape.indirect)", "s\(shape.segments)", "r\(shape.regions)", "n\(shape.ringSize)",
        ]
        for i in values.indices {
          for j in values.indices where i < j { seen.insert(values[i] + values[j]) }
        }
      }
      // Pairs of the widths 2, 2, 2, 2, 3, 3, 7.
      #expect(seen.count == 4 * 6 + 6 * 8 + 9 + 7 * 8 + 7 * 6)
      #expect(Self.shapes.count < 60)
    }

    @Test("Frames of all lengths arrive whole between guests of every shape", arguments: shapes)
    func pairwise(_ shape: Shape) throws {
      try exchange(shape, with: shape, frames: Upheaval.share(of: 40))
    }

    @Test("The smallest and the largest ring", arguments: [2, 32_768])
    func extremes(_ size: Int) throws {
      var shape = Shape()
      shape.ringSize = size
      try exchange(shape, with: shape, frames: 80)
    }

    @Test("Guests of different shapes, modern and legacy, understand each other (E07, E46)")
    func mixed() throws {
      let legacy = Shape(
        mergeable: false, version1: false, eventIndex: false, indirect: false, ringSize: 64)
      try exchange(legacy, with: Shape(segments: 5), frames: 80)
      try exchange(Shape(segments: 2, regions: 3), with: legacy, frames: 80)
    }

    /// Two guests send each other frames of all lengths, one at a time and in bursts, and check them all.
    private func exchange(_ first: Shape, with second: Shape, frames: Int) throws {
      let bench = try Bench()
      let guests = [
        try bench.attach("g0", first.options), try bench.attach("g1", second.options),
      ]
      #expect(guests[0].features.contains(.version1) == first.version1)
      #expect(guests[0].features.contains(.mrgRxbuf) == first.mergeable)
      #expect(guests[0].features.contains(.eventIdx) == first.eventIndex)
      #expect(guests[0].features.contains(.indirectDesc) == first.indirect)
      try introduce(guests)
      var checkers = [SequenceChecker(), SequenceChecker()]
      let longest = min(first.longest, second.longest)
      for round in 0..<frames {
        for from in 0...1 {
          // Never more than the receiver has buffers for.
          let length = TestFrame.minLength + (round * 397) % (longest - TestFrame.minLength + 1)
          let ring = min(first.ringSize, second.ringSize)
          let pieces = max(first.segments, second.segments)
          let burst = max(1, min(round % 9, ring / max(pieces, (length + 12) / 2048 + 1)))
          for number in 0..<burst {
            let frame = TestFrame.make(
              to: .station(1 - from), from: .station(from),
              sequence: checkers[1 - from].next + UInt64(number), length: length)
            #expect(guests[from].pairs[0].enqueue(frame))
          }
          guests[from].pairs[0].flush()
          for _ in 0..<burst {
            let frame = try guests[1 - from].receive(milliseconds: 120_000)
            checkers[1 - from].accept(try #require(frame, "round \(round), \(length) bytes"))
          }
          guests[from].settle()
        }
      }
      #expect(checkers.allSatisfy { $0.isClean })
      bench.expectBalance(.named(guests))
      #expect(bench.fabric.stats().received.dropped + bench.fabric.stats().sent.dropped == 0)
    }
  }
}
