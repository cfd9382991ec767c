internal import CNuma
internal import Glibc

/// Which CPUs sit beside which memory.
public struct Topology: Sendable, Equatable {
  public struct Node: Sendable, Equatable {
    public var id: Int
    public var cpus: [Int]

    public init(id: Int, cpus: [Int]) {
      self.id = id
      self.cpus = cpus
    }
  }
  public var nodes: [Node]

  public init(nodes: [Node]) {
    self.nodes = nodes
  }

  /// The node of a CPU; 0 for one that no node names.
  public func node(ofCPU cpu: Int) -> Int {
    nodes.first { $0.cpus.contains(cpu) }?.id ?? 0
  }
}

/// The machine's memory nodes, through libnuma; a machine (or kernel) without NUMA is one node.
public enum NUMA {
  private static let available = numa_available() >= 0

  public static func topology() -> Topology {
    let cpus = Array(0..<Affinity.cpuCount)
    guard available else { return Topology(nodes: [.init(id: 0, cpus: cpus)]) }
    var nodes: [Int: [Int]] = [:]
    for cpu in cpus {
      let node = Int(numa_node_of_cpu(CInt(cpu)))
      nodes[max(node, 0), default: []].append(cpu)
    }
    return Topology(
      nodes: nodes.sorted { $0.key < $1.key }.map { .init(id: $0.key, cpus: $0.value) })
  }

  /// The node that holds the page at `address`, which is brought in if it is not there yet; `nil` when
  /// the kernel does not say.
  public static func node(of address: UnsafeRawPointer) -> Int? {
    guard available else { return nil }
    var node: CInt = -1
    // SAFETY: with MPOL_F_NODE | MPOL_F_ADDR the call writes one int and only looks the page up.
    let result = unsafe get_mempolicy(
      &node, nil, 0, UnsafeMutableRawPointer(mutating: address),
      UInt32(MPOL_F_NODE) | UInt32(MPOL_F_ADDR))
    return result == 0 && node >= 0 ? Int(node) : nil
  }

  /// Asks for the pages of a range, none of which has been touched, to come from `node`. Preferred, not
  /// bound: a node without free huge pages must not turn into a SIGBUS later.
  static func prefer(_ node: Int, _ base: UnsafeMutableRawPointer, _ length: Int) {
    guard available, node >= 0, node < 64 else { return }
    var mask: UInt = 1 << UInt(node)
    // SAFETY: the range is this process's own; the mask is read during the call.
    _ = unsafe mbind(base, UInt(length), CInt(MPOL_PREFERRED), &mask, 65, 0)
  }
}
