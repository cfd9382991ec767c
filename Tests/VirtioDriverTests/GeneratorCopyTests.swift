import Testing

@testable import VirtioDriver

/// The yardstick copies all of every frame, and nothing beside.
@Suite struct GeneratorCopyTests {
  private static let shapes: [(options: Lane.Options, length: Int, sources: Int, targets: Int)] = [
    (.init(ringSize: 32), 64, 32, 32),
    (.init(ringSize: 32), 1514, 32, 32),
    (.init(ringSize: 32, receiveRoom: 4096, transmitRoom: 4096, pieces: 3), 9000, 10, 10),
    (
      .init(ringSize: 32, receiveRoom: 2048, transmitRoom: 4096, pieces: 3, indirect: true), 9000,
      32, 6
    ),
    (
      .init(
        features: [.version1], ringSize: 32, receiveRoom: 9000, transmitRoom: 4096, pieces: 3),
      9000, 10, 32
    ),
  ]

  @Test("Each frame of one lane comes to lie in the other's buffers, whole", arguments: shapes)
  func whole(_ shape: (options: Lane.Options, length: Int, sources: Int, targets: Int)) throws {
    let generator = Generator(capacity: 2)
    for _ in 0..<2 { generator.add(try Lane.alone(shape.options)) }
    let from = generator[0].sources(shape.length)
    let to = generator[1].targets(shape.length)
    #expect(from.count == shape.sources && to.count == shape.targets)
    for frame in 0..<from.count {
      for byte in 0..<shape.length {
        let value = UInt8(truncatingIfNeeded: frame &* 31 &+ byte &* 7)
        (from.first + frame * from.stride).storeBytes(of: value, toByteOffset: byte, as: UInt8.self)
      }
    }
    // Behind the last byte of each place.
    for place in 0..<to.count {
      (to.first + place * to.stride).storeBytes(
        of: 0x5a, toByteOffset: shape.length, as: UInt8.self)
    }
    let found = generator.copyFrames(of: shape.length, between: [(0, 1)], seconds: 0)
    let burst = min(64, from.count, to.count)
    #expect(found.frames == UInt64(burst) && found.seconds > 0)
    // Every place was used once before, and one burst more was copied.
    let lap = (max(from.count, to.count) + burst - 1) / burst * burst
    for number in lap..<lap + burst {
      let (target, source) = (number % to.count * to.stride, number % from.count * from.stride)
      let isWhole = (0..<shape.length).allSatisfy {
        (to.first + target).load(fromByteOffset: $0, as: UInt8.self)
          == (from.first + source).load(fromByteOffset: $0, as: UInt8.self)
      }
      #expect(isWhole)
      #expect((to.first + target).load(fromByteOffset: shape.length, as: UInt8.self) == 0x5a)
    }
  }

  @Test("Both directions take turns")
  func directions() throws {
    let generator = Generator(capacity: 2)
    for _ in 0..<2 { generator.add(try Lane.alone(.init(ringSize: 32))) }
    let found = generator.copyFrames(of: 64, between: [(0, 1), (1, 0)], seconds: 0)
    #expect(found.frames == 64)
  }
}
