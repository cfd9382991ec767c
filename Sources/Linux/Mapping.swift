internal import CLinux
internal import Glibc
internal import SystemPackage

/// Mapped memory, unmapped when the last reference goes. Whoever hands its address to a worker keeps the
/// mapping alive until no worker can hold that address any more.
///
/// # Memory that vanishes
///
/// Whoever shares a file can take pages of it away under a worker's hands. Each shared mapping is in a table, from
/// before its first access until after its last; a SIGBUS inside one puts memory of our own in place of the whole
/// mapping, notes that, and signals `vanished` (guard.c). A SIGBUS anywhere else does what it would without us.
@safe public final class Mapping: @unchecked Sendable {
  /// First byte that was asked for.
  public let base: UnsafeMutableRawPointer
  /// Bytes from `base` that may be used.
  public let length: Int
  /// Bytes of a page of the memory behind it.
  public let pageSize: Int
  private let mapped: UnsafeMutableRawPointer
  private let mappedLength: Int
  /// Its place among the guarded mappings; `nil`: the memory is our own, and nobody can take it.
  private let guarded: CInt?

  init(
    base: UnsafeMutableRawPointer, length: Int, pageSize: Int, mapped: UnsafeMutableRawPointer,
    mappedLength: Int
  ) {
    unsafe self.base = unsafe base
    self.length = length
    self.pageSize = pageSize
    unsafe self.mapped = unsafe mapped
    self.mappedLength = mappedLength
    guarded = nil
  }

  /// Maps bytes `offset ..< offset + length` of `file`, shared, readable and writable.
  ///
  /// Who else holds the file can shorten it later: then `hasVanished` becomes true at the first access to what is
  /// gone, and all of the mapping is memory of our own, zeros at first.
  ///
  /// Fails with `.invalidArgument` when the range is empty, overflows, or is not wholly inside the file, and with
  /// `.notSupported` when an access might have to wait for another process or a disk: only regular files of file systems
  /// in memory are mapped.
  ///
  /// - Parameter allowsDisks: takes files of the kernel's own file systems on disks too.
  public init(
    sharing file: OwnedFD, offset: UInt64, length: UInt64, allowsDisks: Bool = false
  ) throws(SystemError) {
    let (fileLength, pageSize, isRegular) = try file.fileSize()
    let fileSystem = try FileSystem(of: file)
    guard isRegular else { throw SystemError("map what is no regular file", errno: .notSupported) }
    guard fileSystem.isMemory || allowsDisks && fileSystem.servesItself else {
      let why =
        fileSystem.servesItself
        ? "which is on a disk that its users may have to wait for"
        : "whose pages another process may have to bring"
      throw SystemError(
        "map a file of file system 0x\(String(fileSystem.magic, radix: 16)), \(why) (share memory by memfd, tmpfs or hugetlbfs)",
        errno: .notSupported)
    }
    guard Mapping.vanished != nil else {
      throw SystemError("guard guest memory against its loss", errno: .noMemory)
    }
    let (end, overflow) = offset.addingReportingOverflow(length)
    guard length > 0, !overflow, end <= fileLength, end <= UInt64(Int.max) / 2 else {
      throw SystemError(
        "map \(length) bytes at \(offset) of a file of \(fileLength)", errno: .invalidArgument)
    }
    // mmap wants whole pages: begin at the page that holds `offset`, end with the one that holds the end.
    let page = max(pageSize, 4096)
    let start = offset / page * page
    let whole = Int((end - start + page - 1) / page * page)
    var address: UnsafeMutableRawPointer?
    // SAFETY: the kernel chooses the address; the object owns it from here on.
    try SystemError.check(
      unsafe clx_map_shared(file.raw, start, whole, &address), "map \(length) bytes of guest memory"
    )
    let place = unsafe clx_guard_add(address, whole, Int(page))
    guard place >= 0 else {
      _ = unsafe clx_unmap(address, whole)
      throw SystemError("guard \(length) bytes of guest memory", errno: .noSpace)
    }
    guarded = place
    unsafe mapped = unsafe address.unsafelyUnwrapped
    mappedLength = whole
    unsafe base = unsafe mapped + Int(offset - start)
    self.length = Int(length)
    self.pageSize = Int(page)
    // A core dump of the switch must not carry its guests' memory.
    _ = unsafe clx_advise_nodump(mapped, mappedLength)
  }

  deinit {
    if let guarded { clx_guard_remove(guarded) }
    _ = unsafe clx_unmap(mapped, mappedLength)
  }

  /// Whether an access has found a page missing: what is here is not what the file's other holders see, and may not be
  /// used any more, though it does no harm to touch it.
  public var hasVanished: Bool { guarded.map { clx_guard_is_gone($0) != 0 } ?? false }

  /// Signalled whenever a mapping has vanished, in whatever thread; `nil`: there is no way to survive that.
  public static let vanished: EventFD? = {
    guard let event = try? EventFD(), clx_guard_install(event.descriptor.raw) == 0 else {
      return nil
    }
    return event
  }()

  /// Mappings that have vanished so far in this process.
  public static var vanishedCount: UInt { clx_guard_count() }
}

extension Mapping {
  /// Zeroed memory of this process alone, `length` bytes, in small pages.
  public static func own(_ length: Int) throws(SystemError) -> Mapping {
    var address: UnsafeMutableRawPointer?
    // SAFETY: the kernel chooses the address; the object owns it from here on.
    try SystemError.check(
      unsafe clx_map_anonymous(length, 0, &address), "map \(length) bytes")
    let base = unsafe address.unsafelyUnwrapped
    return unsafe Mapping(
      base: base, length: length, pageSize: 4096, mapped: base, mappedLength: length)
  }
}
