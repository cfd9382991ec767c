import Testing

@testable import swivel_bench

@Suite struct SizesTests {
  @Test("Sizes are numbers, names, and lists of both")
  func parsing() throws {
    #expect(try Sizes.parse("64") == [.one(64)])
    #expect(try Sizes.parse("64,1518,imix") == [.one(64), .one(1518), .imix])
    #expect(try Sizes.parse("rfc2544").map(\.longest) == [64, 128, 256, 512, 1024, 1280, 1518])
    #expect(try Sizes.parse("64K") == [.one(65549)])
  }

  @Test("What is no size is refused", arguments: ["", "59", "65550", "64,", "-64", "64b", "big"])
  func refused(text: String) {
    #expect(throws: BenchError.self) { try Sizes.parse(text) }
  }

  @Test("The mix has seven small frames to four and one")
  func imix() {
    let lengths = Sizes.imix.lengths
    #expect(lengths.filter { $0 == 64 }.count == 7)
    #expect(lengths.filter { $0 == 594 }.count == 4)
    #expect(lengths.filter { $0 == 1518 }.count == 1)
    #expect(Sizes.imix.longest == 1518)
  }

  @Test("Rates have units")
  func rates() {
    #expect(Rate(argument: "5M")?.framesPerSecond == 5_000_000)
    #expect(Rate(argument: "800k")?.framesPerSecond == 800_000)
    #expect(Rate(argument: "1.5M")?.framesPerSecond == 1_500_000)
    #expect(Rate(argument: "1000")?.framesPerSecond == 1000)
    for text in ["", "M", "0", "-1", "5G", "nan", "inf", "1e12"] {
      #expect(Rate(argument: text) == nil, "\(text)")
    }
  }
}
