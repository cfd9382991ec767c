internal import CLinux

/// The kind of file system that a file is in, by its magic number (statfs(2)).
public struct FileSystem: Sendable, Equatable {
  public let magic: UInt32

  public init(magic: UInt32) { self.magic = magic }

  /// That of `file`.
  public init(of file: OwnedFD) throws(SystemError) {
    magic = UInt32(
      truncatingIfNeeded: try SystemError.check(clx_file_system(file.raw), "fstatfs"))
  }

  /// Whether this machine's kernel alone brings in a page of a file that was mapped. Elsewhere (FUSE, NFS, an overlay
  /// over either, which any user can make in a namespace of his own) another process or machine does, when it likes,
  /// and whoever has touched the page waits for it.
  public var servesItself: Bool { isMemory || FileSystem.disks.contains(magic) }

  /// Whether its pages are nowhere but in memory. Elsewhere whoever touches one may wait for a disk: for the page to be
  /// read, or, where many were written, until enough of them are on the disk (balance_dirty_pages).
  public var isMemory: Bool { FileSystem.memory.contains(magic) }

  /// From linux/magic.h.
  private static let memory: Set<UInt32> = [
    0x0102_1994,  // tmpfs: memfd_create(2), /dev/shm
    0x9584_58F6,  // hugetlbfs
    0x8584_58F6,  // ramfs
  ]

  /// From linux/magic.h and the file systems' own headers.
  private static let disks: Set<UInt32> = [
    0xEF53,  // ext2, ext3, ext4
    0x5846_5342,  // XFS
    0x9123_683E,  // Btrfs
    0xF2F5_2010,  // F2FS
    0x2FC1_2FC1,  // ZFS
  ]
}
