import Testing

@testable import Dataplane

@Suite struct TranslationsTests {
  private static func entry(
    _ address: UInt64, _ size: UInt64, _ user: UInt64, _ access: DeviceAccess = [.read, .write]
  ) -> Translation {
    Translation(address: address, size: size, user: user, access: access)
  }

  private static func table(_ translations: [Translation]) -> Translations {
    var table = Translations()
    for translation in translations { _ = table.insert(translation) }
    return table
  }

  private func expect(_ table: Translations, _ wanted: [Translation]) {
    #expect(table.entries.map(\.translation) == wanted)
  }

  @Test("Entries that continue each other are one; others are not (E98)")
  func joins() {
    let pages = [2, 0, 3, 1].map { Self.entry($0 << 12, 4096, 0x7000_0000 + $0 << 12) }
    expect(Self.table(pages), [Self.entry(0, 4 << 12, 0x7000_0000)])
    // Beside each other, but not for the same, or not to the same.
    let apart = [
      Self.entry(0, 4096, 0x1000), Self.entry(4096, 4096, 0x2000, .read),
      Self.entry(8192, 4096, 0x9000, .read), Self.entry(16384, 4096, 0xB000, .read),
    ]
    expect(Self.table(apart), apart)
  }

  @Test("What an insertion changes is told: nothing, more, or other (E98)")
  func changes() {
    var table = Self.table([Self.entry(0x1000, 0x3000, 0x10_1000)])
    #expect(table.insert(Self.entry(0x2000, 0x1000, 0x10_2000)) == .nothing)
    #expect(table.insert(Self.entry(0x4000, 0x1000, 0x10_4000)) == .added)
    #expect(table.insert(Self.entry(0x2000, 0x1000, 0x55_0000)) == .replaced)
    expect(
      table,
      [
        Self.entry(0x1000, 0x1000, 0x10_1000), Self.entry(0x2000, 0x1000, 0x55_0000),
        Self.entry(0x3000, 0x2000, 0x10_3000),
      ])
    #expect(
      table.insert(Self.entry(0x2000, 0x1000, 0x55_0000, .read)) == .replaced, "less is allowed")
    #expect(table.insert(Self.entry(0x2000, 0x1000, 0x55_0000)) == .added, "more is")
  }

  @Test("A removal cuts what reaches beyond it, up to the end of the address space (E98)")
  func removal() {
    var table = Self.table([Self.entry(0x1000, 0x4000, 0x10_0000)])
    table.remove(from: 0x2800, through: 0x2FFF)
    expect(
      table,
      [Self.entry(0x1000, 0x1800, 0x10_0000), Self.entry(0x3000, 0x2000, 0x10_2000)])
    table.remove(from: 0x9000, through: 0x9FFF)
    #expect(table.entries.count == 2)
    let top = UInt64.max - 0x1FFF
    _ = table.insert(Self.entry(top, 0x1000, 0x40_0000))
    table.remove(from: 0x1001, through: .max)
    expect(table, [Self.entry(0x1000, 1, 0x10_0000)])
    table.remove(from: 0, through: .max)
    expect(table, [])
  }

  @Test("What ends with the address space does not wrap (HP-13)")
  func end() {
    let last = UInt64.max - 0xFFF
    var table = Self.table([
      Self.entry(last, 0x1000, last), Self.entry(last - 0x1000, 0x1000, last - 0x1000),
      Self.entry(0, 0x1000, 0),
    ])
    // Nothing continues it at 0.
    expect(table, [Self.entry(0, 0x1000, 0), Self.entry(last - 0x1000, 0x2000, last - 0x1000)])
    #expect(table.insert(Self.entry(last, 0x1000, last)) == .nothing)
    #expect(table.contradicts(Self.entry(last, 0x1000, 0)))
    #expect(table.insert(Self.entry(last, 0x1000, 0)) == .replaced)
    table.remove(from: last + 0x800, through: .max)
    expect(
      table,
      [
        Self.entry(0, 0x1000, 0), Self.entry(last - 0x1000, 0x1000, last - 0x1000),
        Self.entry(last, 0x800, 0),
      ])
    table.remove(from: last, through: .max)
    #expect(table.entries.count == 2)
  }

  @Test("The table does not grow without end: the entry longest unseen goes (HP-13)")
  func bound() {
    var table = Translations()
    for index in 0..<UInt64(Translations.limit) {
      _ = table.insert(Self.entry(index << 13, 4096, index << 13))
    }
    _ = table.insert(Self.entry(0, 4096, 0))
    #expect(table.entries.count == Translations.limit)
    _ = table.insert(Self.entry(1 << 40, 4096, 0))
    #expect(table.entries.count == Translations.limit)
    #expect(table.entries.first?.translation.address == 0, "it was named again")
    #expect(!table.entries.contains { $0.translation.address == 1 << 13 })
    // Two of one that has a hole.
    _ = table.insert(Self.entry(1 << 41, 8192, 1 << 20))
    table.remove(from: 1 << 41 + 64, through: 1 << 41 + 127)
    #expect(table.entries.count <= Translations.limit)
  }

  @Test("A random history of insertions and removals gives what a plain list of pages gives (E98)")
  func model() {
    var table = Translations()
    var model: [UInt64: (user: UInt64, access: DeviceAccess)] = [:]
    var random = SystemRandomNumberGenerator()
    for _ in 0..<3000 {
      let first = UInt64.random(in: 0..<48, using: &random)
      let count = UInt64.random(in: 1...8, using: &random)
      if Bool.random(using: &random) {
        table.remove(from: first << 12, through: (first + count) << 12 - 1)
        for page in first..<(first + count) { model[page] = nil }
      } else {
        // A few places only, so that many continue each other.
        let distance = UInt64.random(in: 0..<3, using: &random) << 30
        let access: DeviceAccess = Bool.random(using: &random) ? .read : [.read, .write]
        _ = table.insert(
          Self.entry(first << 12, count << 12, first << 12 + distance, access))
        for page in first..<(first + count) { model[page] = (page << 12 + distance, access) }
      }
      var found: [UInt64: (user: UInt64, access: DeviceAccess)] = [:]
      for entry in table.entries.map(\.translation) {
        for page in entry.address >> 12...entry.last >> 12 {
          found[page] = (entry.user + (page << 12 - entry.address), entry.access)
        }
      }
      #expect(found.count == model.count)
      for (page, value) in model {
        #expect(found[page].map { $0 == value } ?? false, "page \(page)")
      }
      for (left, right) in zip(table.entries, table.entries.dropFirst()) {
        #expect(left.translation.last < right.translation.address)
      }
    }
  }
}
