internal import CLinux
internal import Glibc
internal import SystemPackage

/// Memory of this process from the largest pages there are.
public enum Hugepages {
  /// What a block of memory is made of.
  public enum Pages: Sendable, Equatable, CustomStringConvertible {
    /// Reserved huge pages of that many bytes.
    case huge(Int)
    /// Ordinary pages that the kernel was asked to join into huge ones.
    case transparent
    case ordinary

    /// Reserved huge pages, the fastest there are.
    public var isReserved: Bool {
      if case .huge = self { true } else { false }
    }

    public var description: String {
      switch self {
      case .huge(let bytes) where bytes >= 1 << 30: "\(bytes >> 30) GiB hugepages"
      case .huge(let bytes): "\(bytes >> 20) MiB hugepages"
      case .transparent: "transparent hugepages"
      case .ordinary: "4 KiB pages"
      }
    }
  }

  /// Zeroed memory of at least `length` bytes, on `node` where there is a choice, with what it is made
  /// of. Falls back from reserved huge pages to transparent ones to ordinary ones; fails only when there
  /// is no memory at all.
  public static func allocate(
    _ length: Int, node: Int?, allowHuge: Bool = true
  ) throws(SystemError) -> (Mapping, Pages) {
    if allowHuge {
      // A gigantic page is worth it only when most of it is used.
      for shift in length >= 1 << 29 ? [30, 21] : [21] {
        if let mapping = try? map(length, shift: shift, node: node) {
          return (mapping, .huge(1 << shift))
        }
      }
    }
    // Twice the alignment, so that a whole number of huge pages fits whatever address the kernel picks.
    let mapping = try map(length, shift: 0, node: node)
    if allowHuge, transparentAllowed, unsafe clx_advise_hugepages(mapping.base, mapping.length) == 0
    {
      return (mapping, .transparent)
    }
    return (mapping, .ordinary)
  }

  private static func map(_ length: Int, shift: Int, node: Int?) throws(SystemError) -> Mapping {
    let unit = 1 << max(shift, 21)
    let whole = (length + unit - 1) / unit * unit
    let extra = shift == 0 ? unit : 0
    var address: UnsafeMutableRawPointer?
    // SAFETY: the kernel chooses the address; the mapping owns it from here on.
    try SystemError.check(
      unsafe clx_map_anonymous(whole + extra, UInt32(shift), &address),
      "allocate \(whole) bytes")
    let start = unsafe address.unsafelyUnwrapped
    let base =
      unsafe extra == 0
      ? start
      : UnsafeMutableRawPointer(
        bitPattern: (UInt(bitPattern: start) + UInt(unit) - 1) / UInt(unit) * UInt(unit)
      ).unsafelyUnwrapped
    // Before the first touch: a page lands where the policy then in force says.
    if let node { unsafe NUMA.prefer(node, base, whole) }
    // A reservation can still fail at the first touch (a cgroup's limit, a cpuset), and then as a SIGBUS: touch
    // it now. Kernels before 5.14 can't, and are believed.
    if shift != 0 {
      let result = unsafe clx_populate(base, whole)
      if result < 0, result != -EINVAL, result != -ENOSYS {
        _ = unsafe clx_unmap(start, whole)
        throw SystemError("touch \(whole) bytes", errno: Errno(rawValue: -result))
      }
    }
    return unsafe Mapping(
      base: base, length: whole, pageSize: shift == 0 ? 4096 : 1 << shift, mapped: start,
      mappedLength: whole + extra)
  }

  private static var transparentAllowed: Bool {
    guard let text = SmallFile.read("/sys/kernel/mm/transparent_hugepage/enabled") else {
      return false
    }
    return !text.contains("[never]")
  }
}
