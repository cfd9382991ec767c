import Linux
import Testing

@testable import Switch

/// Placement on machines that do not exist.
@Suite struct PlacementTests {
  private static let twoNodes = Topology(nodes: [
    .init(id: 0, cpus: [0, 1, 2, 3]), .init(id: 1, cpus: [4, 5, 6, 7]),
  ])

  private func placement(_ topology: Topology, cpus: [Int]) -> Placement {
    Placement(nodes: cpus.map(topology.node(ofCPU:)))
  }

  @Test("On one node the least loaded worker has the next queue")
  func oneNode() {
    var placement = Placement(nodes: [0, 0, 0])
    #expect((0..<7).map { _ in placement.place(node: 0) } == [0, 1, 2, 0, 1, 2, 0])
    #expect(placement.loads == [3, 2, 2])
    placement.release(1)
    #expect(placement.place(node: 0) == 1)
  }

  @Test("A queue goes beside its guest's memory, however loaded that is")
  func nearMemory() {
    var placement = placement(Self.twoNodes, cpus: [0, 1, 4])
    #expect((0..<4).map { _ in placement.place(node: 1) } == [2, 2, 2, 2])
    #expect((0..<3).map { _ in placement.place(node: 0) } == [0, 1, 0])
    #expect(placement.loads == [2, 1, 4])
  }

  @Test("Memory on a node without a worker, or on one that nobody knows: the least loaded of all")
  func farMemory() {
    var placement = placement(Self.twoNodes, cpus: [4, 5])
    #expect(placement.place(node: 0) == 0)
    #expect(placement.place(node: nil) == 1)
    #expect(placement.place(node: 7) == 0)
    #expect(placement.place(node: -1) == 1)
  }

  @Test("Nodes with numbers that leave gaps, CPUs interleaved over them")
  func oddTopologies() {
    let odd = Topology(nodes: [
      .init(id: 3, cpus: [0, 2, 4]), .init(id: 8, cpus: [1, 3, 5]), .init(id: 9, cpus: []),
    ])
    var placement = placement(odd, cpus: [0, 1, 2, 3])
    #expect(placement.nodes == [3, 8, 3, 8])
    #expect(placement.place(node: 8) == 1)
    #expect(placement.place(node: 8) == 3)
    #expect(placement.place(node: 3) == 0)
    #expect(placement.place(node: 9) == 2)
    // A CPU that no node names counts as node 0.
    #expect(odd.node(ofCPU: 99) == 0)
  }

  @Test("Any sequence of places and releases keeps the nodes' loads even")
  func churn() {
    var placement = placement(Self.twoNodes, cpus: [0, 1, 4, 5])
    var held: [Int] = []
    var random = SystemRandomNumberGenerator()
    for _ in 0..<2000 {
      if held.count < 40 || Bool.random(using: &random) {
        held.append(placement.place(node: Int.random(in: 0...1, using: &random)))
      } else {
        placement.release(held.remove(at: Int.random(in: held.indices, using: &random)))
      }
      #expect(placement.loads.reduce(0, +) == held.count)
      #expect(placement.loads.allSatisfy { $0 >= 0 })
    }
    // With nothing released any more the loads of a node level out.
    for _ in 0..<2000 { _ = placement.place(node: 1) }
    #expect(abs(placement.loads[2] - placement.loads[3]) <= 1)
  }
}
