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

  /// What memcpy does with the frames of two ports that send to each other, in buffers as the plan has them.
  static func copy(_ sizes: Sizes, _ plan: Plan) throws -> Outcome {
    var options = Bed.laneOptions(plan, longest: sizes.longest)
    options.features.insert(.version1)
    let generator = Generator(capacity: 2)
    for _ in 0..<2 { generator.add(try Lane.alone(options)) }
    let (frames, seconds) = generator.copyFrames(
      of: sizes.longest, between: [(0, 1), (1, 0)], seconds: plan.seconds)
    var result = Outcome(mode: .memcpy, size: sizes.name)
    result.seconds = seconds
    (result.sentFrames, result.receivedFrames) = (frames, frames)
    result.mpps = Double(frames) / seconds / 1e6
    result.gbps = Double(frames) * Double(sizes.longest) * 8 / seconds / 1e9
    return result
  }
}
