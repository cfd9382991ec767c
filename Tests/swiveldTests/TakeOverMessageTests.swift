import ControlAPI
import Foundation
import Testing

@testable import swiveld

@Suite struct TakeOverMessageTests {
  @Test("A message is what it was when it has been text")
  func roundTrip() throws {
    var message = TakeOverMessage(.refused)
    message.reason = "a \"reason\""
    message.stateFile = .init(path: "/run/x.state", descriptor: 3)
    let back = try TakeOverMessage(decoding: try message.encoded())
    #expect(back.kind == .refused && back.reason == message.reason)
    #expect(back.stateFile?.path == "/run/x.state" && back.stateFile?.descriptor == 3)
    #expect(back.version == swivelVersion)
  }

  @Test("Another format is refused, with the versions of both")
  func otherFormat() throws {
    let text = "{\"kind\": \"news\", \"format\": 2, \"version\": \"9.9\"}"
    let error = #expect(throws: ServiceError.self) {
      try TakeOverMessage(decoding: Array(text.utf8))
    }
    #expect(error?.message.contains("9.9") == true)
    #expect(error?.message.contains("restart") == true)
  }

  @Test(
    "What is damaged is refused",
    arguments: [
      "", "{", "[]", "{\"format\": 1}", "{\"format\": 1, \"version\": \"1\", \"kind\": \"song\"}",
    ])
  func damaged(text: String) {
    #expect(throws: ServiceError.self) { try TakeOverMessage(decoding: Array(text.utf8)) }
  }
}
