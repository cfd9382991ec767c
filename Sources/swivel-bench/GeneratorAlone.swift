import VirtioDriver

/// The generator without a switch: what it could do at most.
enum GeneratorAlone {
  static func measure(_ sizes: Sizes) throws -> Outcome {
    let generator = Generator(capacity: 2)
    for _ in 0..<2 {
      var lane = try Lane.alone(
        .init(receiveRoom: max(2048, sizes.longest), transmitRoom: max(2048, sizes.longest)))
      lane.prepare(sizes.lengths)
      lane.setFlows([.init(to: .station(1), from: .station(2))])
      generator.add(lane)
    }
    var result = Outcome(mode: .generator, size: sizes.name)
    let nanoseconds = generator.measureSelf()
    result.generatorNanoseconds = nanoseconds
    result.mpps = 1e3 / nanoseconds
    result.limit = .generator
    return result
  }
}
