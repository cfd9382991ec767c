import CLinux
import Glibc
import Linux
import Testing

/// Free 2 MiB pages.
private func hugepages(_ which: String) -> Int {
  let path = "/sys/kernel/mm/hugepages/hugepages-2048kB/\(which)_hugepages"
  return Int(SmallFile.read(path)?.filter(\.isNumber) ?? "") ?? 0
}

@Suite struct MemoryTests {
  private func file(_ length: Int, hugePageShift: UInt32 = 0) throws -> OwnedFD {
    let file = OwnedFD(
      taking: try SystemError.check(clx_memfd("test", hugePageShift), "make a memory file"))
    #expect(ftruncate(file.raw, length) == 0)
    return file
  }

  @Test("A mapping begins at the byte asked for, aligned or not (E85)")
  func offsets() throws {
    let file = try file(3 * 4096)
    let whole = try Mapping(sharing: file, offset: 0, length: 3 * 4096)
    for index in 0..<(3 * 4096) {
      whole.base.storeBytes(
        of: UInt8(truncatingIfNeeded: index % 251), toByteOffset: index, as: UInt8.self)
    }
    for (offset, length) in [(0, 1), (1, 10), (4095, 2), (4096, 4096), (5000, 7288)] {
      let part = try Mapping(sharing: file, offset: UInt64(offset), length: UInt64(length))
      #expect(part.length == length)
      #expect(part.base.load(as: UInt8.self) == UInt8(offset % 251))
      #expect(
        part.base.load(fromByteOffset: length - 1, as: UInt8.self)
          == UInt8((offset + length - 1) % 251))
    }
  }

  @Test(
    "A copy is what it was made of, and nothing beside it changes, wherever the two lie in their pages"
  )
  func copies() {
    let source = UnsafeMutableRawBufferPointer.allocate(byteCount: 16_384, alignment: 4096)
    let target = UnsafeMutableRawBufferPointer.allocate(byteCount: 16_384, alignment: 4096)
    defer {
      source.deallocate()
      target.deallocate()
    }
    for index in source.indices { source[index] = UInt8(truncatingIfNeeded: index % 251) }
    for further in [0, 1, 12, 16, 31, 63, 64, 4032] {
      for length in [0, 1, 63, 2047, 2048, 2049, 4111, 9000] {
        target.copyBytes(from: repeatElement(0xAA, count: target.count))
        clx_copy(target.baseAddress! + further, source.baseAddress!, length)
        let inside = further..<(further + length)
        #expect(
          target[inside].elementsEqual(source[0..<length]), "\(length) bytes, \(further) further")
        #expect(target.indices.allSatisfy { inside.contains($0) || target[$0] == 0xAA })
      }
    }
  }

  @Test("HP-03: a region that is empty, wraps, or is longer than its file is refused")
  func refusals() throws {
    let file = try file(8192)
    let bad: [(UInt64, UInt64)] = [
      (0, 0), (0, 8193), (8192, 1), (1, 8192), (.max, 2), (2, .max), (1 << 63, 1 << 63),
      (0, 1 << 62),
    ]
    for (offset, length) in bad {
      #expect(throws: SystemError.self, "\(offset) \(length)") {
        _ = try Mapping(sharing: file, offset: offset, length: length)
      }
    }
    let (one, _) = try UnixSocket.pair()
    #expect(throws: SystemError.self) { _ = try Mapping(sharing: one, offset: 0, length: 4096) }
  }

  @Test(
    "Guest memory of hugetlb pages: a part of a page is mapped by mapping the page (E85)",
    .enabled(if: hugepages("free") >= 4, "needs 4 free 2 MiB hugepages"))
  func hugetlb() throws {
    let file = try file(4 << 20, hugePageShift: 21)
    let (length, pageSize, _) = try file.fileSize()
    #expect(length == 4 << 20 && pageSize == 2 << 20)
    let mapping = try Mapping(sharing: file, offset: 4096, length: (2 << 20) + 100)
    #expect(mapping.pageSize == 2 << 20)
    mapping.base.storeBytes(of: 7, toByteOffset: (2 << 20) + 99, as: UInt8.self)
    let again = try Mapping(sharing: file, offset: (2 << 20) + 4096, length: 100)
    #expect(again.base.load(fromByteOffset: 99, as: UInt8.self) == 7)
  }

  @Test(
    "Arena memory is there whatever the machine has, zeroed, aligned, and says what it is made of")
  func fallBack() throws {
    let (ordinary, pages) = try Hugepages.allocate(3 << 20, node: 0, allowHuge: false)
    #expect(pages == .ordinary && pages.description == "4 KiB pages")
    #expect(ordinary.length >= 3 << 20)
    #expect(UInt(bitPattern: ordinary.base) % (2 << 20) == 0)
    #expect(ordinary.base.load(fromByteOffset: 3 << 20 - 8, as: UInt64.self) == 0)
    // More than is reserved in all, as others may give some back at this moment: falls back instead of failing.
    let length = (hugepages("nr") + 8) << 21
    let (large, other) = try Hugepages.allocate(length, node: nil)
    #expect(!other.isReserved && large.length >= length)
    #expect(Hugepages.Pages.huge(1 << 30).description == "1 GiB hugepages")
  }

  @Test func nodes() throws {
    let topology = NUMA.topology()
    #expect(!topology.nodes.isEmpty)
    #expect(Set(topology.nodes.flatMap(\.cpus)).isSuperset(of: Affinity.current))
    let (memory, _) = try Hugepages.allocate(1 << 20, node: topology.nodes[0].id)
    memory.base.storeBytes(of: 1, as: UInt8.self)
    let node = NUMA.node(of: memory.base)
    #expect(node == nil || topology.nodes.map(\.id).contains(node!))
  }
}
