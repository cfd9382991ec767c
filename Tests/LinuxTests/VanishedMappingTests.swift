import CLinux
import Glibc
import Linux
import Synchronization
import Testing

/// Files that lose pages under their mappings.
@Suite struct VanishedMappingTests {
  private func file(_ length: Int) throws -> OwnedFD {
    let file = OwnedFD(taking: try SystemError.check(clx_memfd("vanishing", 0), "memfd"))
    #expect(ftruncate(file.raw, length) == 0)
    return file
  }

  @Test("HP-03: what is gone becomes memory of our own, and is said to have gone")
  func loss() throws {
    let bytes = 1 << 20
    let file = try file(bytes)
    let mapping = try Mapping(sharing: file, offset: 0, length: UInt64(bytes))
    let other = try Mapping(sharing: try self.file(4096), offset: 0, length: 4096)
    other.base.storeBytes(of: 7, as: UInt8.self)
    mapping.base.storeBytes(of: 7, as: UInt8.self)
    let count = Mapping.vanishedCount
    #expect(ftruncate(file.raw, bytes / 2) == 0)
    #expect(mapping.base.load(as: UInt8.self) == 7 && !mapping.hasVanished, "half is there")
    #expect(mapping.base.load(fromByteOffset: bytes - 1, as: UInt8.self) == 0)
    #expect(mapping.hasVanished && Mapping.vanishedCount > count)
    // All of it, and it can be written.
    #expect(mapping.base.load(as: UInt8.self) == 0)
    for offset in stride(from: 0, to: bytes, by: 4096) {
      mapping.base.storeBytes(of: 1, toByteOffset: offset, as: UInt8.self)
    }
    #expect(!other.hasVanished && other.base.load(as: UInt8.self) == 7)
    let whole = try Mapping(sharing: file, offset: 0, length: UInt64(bytes / 2))
    #expect(!whole.hasVanished && whole.base.load(as: UInt8.self) == 7, "the file has what it had")
  }

  @Test("HP-03: several threads may find out at once, of several mappings, which come and go")
  func together() throws {
    let pages = 64
    for _ in 0..<20 {
      let files = try (0..<4).map { _ in try file(pages * 4096) }
      let mappings = try files.map {
        try Mapping(sharing: $0, offset: 0, length: UInt64(pages * 4096))
      }
      for file in files { #expect(ftruncate(file.raw, 0) == 0) }
      let touched = Atomic<Int>(0)
      try withExtendedLifetime(touched) {
        let threads = try (0..<4).map { number in
          try Linux.Thread(name: "toucher") {
            for page in 0..<pages {
              let mapping = mappings[(number + page) % 4]
              mapping.base.storeBytes(of: 1, toByteOffset: page * 4096, as: UInt8.self)
            }
          }
        }
        for thread in threads { thread.join() }
      }
      #expect(mappings.allSatisfy { $0.hasVanished })
    }
    let fresh = try Mapping(sharing: try file(4096), offset: 0, length: 4096)
    #expect(!fresh.hasVanished, "a place in the table that is used again begins anew")
  }

  @Test("A SIGBUS that is none of theirs ends the process, as ever")
  func foreign() async {
    await #expect(processExitsWith: .signal(SIGBUS)) {
      _ = Mapping.vanished
      let file = OwnedFD(taking: try SystemError.check(clx_memfd("foreign", 0), "memfd"))
      ftruncate(file.raw, 4096)
      var address: UnsafeMutableRawPointer?
      try SystemError.check(clx_map_shared(file.raw, 0, 4096, &address), "map")
      ftruncate(file.raw, 0)
      _ = address!.load(as: UInt8.self)
    }
    await #expect(processExitsWith: .signal(SIGBUS)) {
      _ = Mapping.vanished
      kill(getpid(), SIGBUS)
      sleep(600)
    }
  }

  /// Has the handler think that a SIGBUS has come, as real ones of these kinds take broken hardware.
  private static func pretend(_ code: Int, at address: UnsafeMutableRawPointer?) {
    var action = sigaction()
    sigaction(SIGBUS, nil, &action)
    var info = siginfo_t()
    info.si_signo = SIGBUS
    info.si_code = CInt(code)
    info._sifields._sigfault.si_addr = address
    action.__sigaction_handler.sa_sigaction(SIGBUS, &info, nil)
  }

  /// A mapping of a file that has no page any more, which only a guard that is armed lets one touch.
  private static func touchVanished() throws {
    let file = OwnedFD(taking: try SystemError.check(clx_memfd("vanishing", 0), "memfd"))
    ftruncate(file.raw, 4096)
    let mapping = try Mapping(sharing: file, offset: 0, length: 4096)
    ftruncate(file.raw, 0)
    guard mapping.base.load(as: UInt8.self) == 0, mapping.hasVanished else { exit(9) }
  }

  @Test("A memory error that nobody has touched (BUS_MCEERR_AO) leaves everything as it is")
  func errorElsewhere() async {
    await #expect(processExitsWith: .success) {
      let file = OwnedFD(taking: try SystemError.check(clx_memfd("sound", 0), "memfd"))
      ftruncate(file.raw, 4096)
      let mapping = try Mapping(sharing: file, offset: 0, length: 4096)
      mapping.base.storeBytes(of: 7, as: UInt8.self)
      let own = UnsafeMutableRawPointer.allocate(byteCount: 4096, alignment: 4096)
      for address in [mapping.base, own, nil] { VanishedMappingTests.pretend(5, at: address) }
      guard !mapping.hasVanished, mapping.base.load(as: UInt8.self) == 7 else { exit(1) }
      try VanishedMappingTests.touchVanished()
    }
  }

  @Test("A memory error that was touched (BUS_MCEERR_AR) costs its mapping; elsewhere the process")
  func errorTouched() async {
    await #expect(processExitsWith: .success) {
      let file = OwnedFD(taking: try SystemError.check(clx_memfd("bad", 0), "memfd"))
      ftruncate(file.raw, 4096)
      let mapping = try Mapping(sharing: file, offset: 0, length: 4096)
      mapping.base.storeBytes(of: 7, as: UInt8.self)
      VanishedMappingTests.pretend(4, at: mapping.base)
      guard mapping.hasVanished, mapping.base.load(as: UInt8.self) == 0 else { exit(1) }
      try VanishedMappingTests.touchVanished()
    }
    await #expect(processExitsWith: .signal(SIGBUS)) {
      _ = Mapping.vanished
      let own = UnsafeMutableRawPointer.allocate(byteCount: 4096, alignment: 4096)
      VanishedMappingTests.pretend(4, at: own)
      // That access comes again; this one is as good.
      try VanishedMappingTests.touchVanished()
    }
  }

  @Test("A SIGBUS that was sent to who ignores it is ignored, and disarms nothing")
  func ignored() async {
    await #expect(processExitsWith: .success) {
      signal(SIGBUS, SIG_IGN)
      _ = Mapping.vanished
      for _ in 0..<3 { raise(SIGBUS) }
      try VanishedMappingTests.touchVanished()
    }
  }

  @Test("The table of mappings has an end, which is an error, and places are used again")
  func capacity() async {
    await #expect(processExitsWith: .success) {
      var places: [CInt] = []
      while true {
        let place = clx_guard_add(UnsafeMutableRawPointer(bitPattern: 4096), 4096, 4096)
        if place < 0 { break }
        places.append(place)
      }
      guard places.count >= 1024 * 64 * 2 else { exit(1) }
      for place in places { clx_guard_remove(place) }
      let file = OwnedFD(taking: try SystemError.check(clx_memfd("last", 0), "memfd"))
      ftruncate(file.raw, 4096)
      let mapping = try Mapping(sharing: file, offset: 0, length: 4096)
      ftruncate(file.raw, 0)
      if mapping.base.load(as: UInt8.self) != 0 { exit(2) }
    }
  }

  /// A directory on a disk, of those that a machine may have.
  private static let disk: String? = ["/var/tmp", "/tmp", "."].first { path in
    let directory = OwnedFD(taking: open(path, O_RDONLY | O_CLOEXEC))
    return (try? FileSystem(of: directory)).map { $0.servesItself && !$0.isMemory } ?? false
  }

  @Test(
    "A file on a disk is mapped for who asks for that, and for nobody else",
    .enabled(if: VanishedMappingTests.disk != nil, "needs a directory on a disk"))
  func disks() throws {
    let path = "\(VanishedMappingTests.disk ?? "")/swivel-mapping-\(getpid())"
    let file = OwnedFD(taking: open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o600))
    unlink(path)
    try #require(ftruncate(file.raw, 4096) == 0)
    let error = #expect(throws: SystemError.self) {
      _ = try Mapping(sharing: file, offset: 0, length: 4096)
    }
    #expect(error?.description.contains("on a disk") == true, "\(error?.description ?? "")")
    let mapping = try Mapping(sharing: file, offset: 0, length: 4096, allowsDisks: true)
    mapping.base.storeBytes(of: 7, as: UInt8.self)
  }

  @Test("Only files whose pages this machine's kernel brings are mapped")
  func fileSystems() throws {
    // FUSE, NFS, SMB, Ceph, 9p, overlay, proc.
    for magic: UInt32 in [
      0x6573_5546, 0x6969, 0xFF53_4D42, 0x00C3_6400, 0x0102_1997, 0x794C_7630, 0x9FA0,
    ] {
      #expect(!FileSystem(magic: magic).servesItself && !FileSystem(magic: magic).isMemory)
    }
    for magic: UInt32 in [0x0102_1994, 0x9584_58F6] {
      #expect(FileSystem(magic: magic).servesItself && FileSystem(magic: magic).isMemory)
    }
    for magic: UInt32 in [0xEF53, 0x5846_5342] {
      #expect(FileSystem(magic: magic).servesItself && !FileSystem(magic: magic).isMemory)
    }
    #expect(try FileSystem(of: try file(1)).servesItself, "memfd")
    // A file of sysfs, which says that it has a page.
    let path = "/sys/kernel/uevent_seqnum"
    let sys = OwnedFD(taking: open(path, O_RDONLY | O_CLOEXEC))
    try #require(sys.raw >= 0, "\(path)")
    let error = #expect(throws: SystemError.self) {
      _ = try Mapping(sharing: sys, offset: 0, length: 4096)
    }
    #expect(error?.description.contains("0x62656572") == true, "\(error?.description ?? "")")
    for allowsDisks in [false, true] {
      let error = #expect(throws: SystemError.self) {
        _ = try Mapping(sharing: sys, offset: 0, length: 4096, allowsDisks: allowsDisks)
      }
      #expect(error?.description.contains("another process may have to bring") == true)
    }
    let null = OwnedFD(taking: open("/dev/zero", O_RDWR | O_CLOEXEC))
    #expect(throws: SystemError.self) { _ = try Mapping(sharing: null, offset: 0, length: 4096) }
  }
}
