internal import CLinux
internal import Glibc
internal import SystemPackage

/// Mapped memory, unmapped when the last reference goes. Whoever hands its address to a worker keeps the
/// mapping alive until no worker can hold that address any more.
@safe public final class Mapping: @unchecked Sendable {
  /// First byte that was asked for.
  public let base: UnsafeMutableRawPointer
  /// Bytes from `base` that may be used.
  public let length: Int
  /// Bytes of a page of the memory behind it.
  public let pageSize: Int
  private let mapped: UnsafeMutableRawPointer
  private let mappedLength: Int

  init(
    base: UnsafeMutableRawPointer, length: Int, pageSize: Int, mapped: UnsafeMutableRawPointer,
    mappedLength: Int
  ) {
    unsafe self.base = unsafe base
    self.length = length
    self.pageSize = pageSize
    unsafe self.mapped = unsafe mapped
    self.mappedLength = mappedLength
  }

  /// Maps bytes `offset ..< offset + length` of `file`, shared, readable and writable.
  ///
  /// Fails with `.invalidArgument` when the range is empty, overflows, or is not wholly inside the file:
  /// a mapping beyond the end of its file would kill the process at the first access.
  public init(sharing file: OwnedFD, offset: UInt64, length: UInt64) throws(SystemError) {
    let (fileLength, pageSize, _) = try file.fileSize()
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
    unsafe mapped = unsafe address.unsafelyUnwrapped
    mappedLength = whole
    unsafe base = unsafe mapped + Int(offset - start)
    self.length = Int(length)
    self.pageSize = Int(page)
    // A core dump of the switch must not carry its guests' memory.
    _ = unsafe clx_advise_nodump(mapped, mappedLength)
  }

  deinit {
    _ = unsafe clx_unmap(mapped, mappedLength)
  }
}
