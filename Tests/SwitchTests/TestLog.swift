import CLinux
import Glibc
import Linux
import Testing
import VirtioDriver

/// A front-end's log of dirty pages, as large as a guest's memory wants it.
final class TestLog {
  let file: OwnedFD
  let size: UInt64
  let offset: UInt64
  private let mapping: Mapping
  /// What is between the addresses of the guest's memory and its physical ones.
  private let shift: UInt64
  private let memory: GuestMemory

  /// - Parameters:
  ///   - offset: where it begins in its file, in bytes.
  ///   - more: bytes beyond those that the memory needs.
  init(_ guest: GuestPort, offset: UInt64 = 0, more: UInt64 = 0) throws {
    memory = guest.memory
    // As `FrontEnd.shareMemory` tells.
    shift = guest.frontEnd.isTranslated ? IOMMU.distance : 0
    let last = try #require(memory.regions.map { $0.guestAddress + UInt64($0.length) - 1 }.max())
    size = (last + shift) / 4096 / 8 + 1 + more
    self.offset = offset
    file = OwnedFD(taking: try SystemError.check(clx_memfd("log", 0), "make a log"))
    #expect(ftruncate(file.raw, Int(offset + size)) == 0)
    mapping = try Mapping(sharing: file, offset: offset, length: size)
  }

  func install(on guest: GuestPort) throws {
    try guest.frontEnd.setLogBase(file, size: size, offset: offset)
  }

  private func byte(_ page: UInt64) -> UInt8 {
    mapping.base.load(fromByteOffset: Int(page / 8), as: UInt8.self)
  }

  /// Whether the page of a guest physical address is marked.
  func marks(_ address: UInt64) -> Bool {
    byte(address / 4096) >> UInt8(address / 4096 % 8) & 1 == 1
  }

  /// Whether the page is marked of an address of the guest's memory as the guest knows it.
  func marks(ofMemory address: UInt64) -> Bool { marks(address + shift) }

  /// Marked pages of the guest's memory.
  var count: Int {
    memory.regions.reduce(0) { sum, region in
      sum
        + stride(from: 0, to: UInt64(region.length), by: 4096).count {
          marks(ofMemory: region.guestAddress + $0)
        }
    }
  }

  /// Takes all marks of the guest's memory away.
  func clear() {
    for region in memory.regions {
      let first = (region.guestAddress + shift) / 4096 / 8
      let last = (region.guestAddress + shift + UInt64(region.length) - 1) / 4096 / 8
      for place in first...last {
        mapping.base.storeBytes(of: 0, toByteOffset: Int(place), as: UInt8.self)
      }
    }
  }
}

/// A copy of a guest's memory.
struct MemoryImage {
  private let memory: GuestMemory
  private let pages: [UInt64: [UInt8]]

  init(_ guest: GuestPort) {
    memory = guest.memory
    pages = MemoryImage.pages(of: memory)
  }

  private static func pages(of memory: GuestMemory) -> [UInt64: [UInt8]] {
    var pages: [UInt64: [UInt8]] = [:]
    for region in memory.regions {
      for offset in stride(from: 0, to: region.length, by: 4096) {
        let address = region.guestAddress + UInt64(offset)
        let buffer = memory.buffer(at: address, length: min(4096, region.length - offset))
        pages[address] = buffer?.read(count: buffer?.length ?? 0)
      }
    }
    return pages
  }

  /// Pages.
  var size: Int { pages.count }

  /// Pages that are not any more what they were.
  var changed: [UInt64] {
    let now = MemoryImage.pages(of: memory)
    // Comparing arrays takes seconds where nothing is optimized.
    return pages.filter { address, page in
      guard let other = now[address], other.count == page.count else { return true }
      return memcmp(page, other, page.count) != 0
    }.keys.sorted()
  }
}
