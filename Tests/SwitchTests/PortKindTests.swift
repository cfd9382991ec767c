import ControlAPI
import Testing

@testable import Switch

@Suite struct PortKindTests {
  /// The compiler does not ask for it, as the switch has no list of kinds.
  @Test(arguments: PortKind.allCases)
  func everyKindOfPortCanBeMade(kind: PortKind) {
    #expect(kind.attachment is any PortMaker.Type)
  }

  @Test func aPortOfNoKindIsRefused() {
    #expect {
      _ = try PortRequest(name: "a").maker
    } throws: {
      ($0 as? ServiceError)?.kind == .invalid
    }
  }
}
