import Testing

@testable import Dataplane

/// What of a burst is put aside: where frames wait, and how much of it there may be.
@Suite struct RestTests {
  private let arena = Arena(node: 0, allowHuge: false)
  /// They are compared, and never looked into.
  private let sinks = UnsafeMutablePointer<Output.Sink>.allocate(capacity: 2)
  private let frames = UnsafeMutablePointer<UInt16>.allocate(capacity: Burst.size)

  init() {
    for index in 0..<Burst.size { frames[index] = UInt16(index) }
  }

  @Test("A queue is named while frames for it wait, and no longer")
  func names() throws {
    defer { release() }
    var rest = try Rest(arena: arena)
    #expect(rest.isEmpty && !rest.names(sinks))
    rest.add(sinks, frames, 3, limit: 1500)
    #expect(!rest.isEmpty && rest.names(sinks) && !rest.names(sinks + 1))
    rest.add(sinks + 1, frames + 3, 2, limit: 9000)
    #expect(rest.names(sinks) && rest.names(sinks + 1))
    let second = rest.entries[1]
    #expect(second.limit == 9000 && second.count == 2)
    #expect((0..<2).map { rest.order[Int(second.first) + $0] } == [3, 4])
    rest.keep(1)
    #expect(rest.names(sinks) && !rest.names(sinks + 1))
    rest.keep(0)
    #expect(rest.isEmpty && !rest.names(sinks))
  }

  @Test(
    "However floods fill it, there is room left for a burst whose frames go to a port each",
    arguments: [1, 2, 7, 32, Burst.size])
  func room(flooded: Int) throws {
    defer { release() }
    var rest = try Rest(arena: arena)
    // Again after it was emptied: nothing of the room is lost.
    for _ in 0..<3 {
      var ports = 0
      while rest.hasRoom(flooded) {
        // The worst: each frame goes to another queue of the port.
        for frame in 0..<flooded { rest.add(sinks, frames + frame, 1, limit: 1500) }
        ports += 1
        try #require(ports < 1000)
      }
      #expect(ports > 0, "a flood of \(flooded) is never put aside")
      for frame in 0..<Burst.size { rest.add(sinks + 1, frames + frame, 1, limit: 1500) }
      #expect(rest.count == ports * flooded + Burst.size)
      // What was put aside is all there: nothing was written over.
      for index in 0..<rest.count {
        let entry = rest.entries[index]
        let isLast = index >= ports * flooded
        #expect(entry.sink == (isLast ? sinks + 1 : sinks) && entry.count == 1)
        let frame = isLast ? index - ports * flooded : index % flooded
        #expect(Int(rest.order[Int(entry.first)]) == frame)
      }
      rest.keep(0)
    }
  }

  private func release() {
    sinks.deallocate()
    frames.deallocate()
  }
}
