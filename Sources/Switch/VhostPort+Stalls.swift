internal import Dataplane

/// A port whose front-end gives memory back while workers need it (`Switch.endStalls`).
extension VhostPort {
  var memoryGivenBack: Int { status.read { $0.memory.givenBack } }

  func endStalls(milliseconds: Int) {
    let (given, rings) = status.read { status in
      (status.memory.givenBack, status.rings.indices.filter { status.rings[$0] != nil })
    }
    report(
      "workers waited \(milliseconds) ms for its memory, of which the front-end gave \(given >> 20) MiB back meanwhile"
    )
    for index in rings { breakDown(.memoryStalls, ring: index) }
    // What was given back is atoned for.
    status.update { $0.memory.forget() }
  }
}
