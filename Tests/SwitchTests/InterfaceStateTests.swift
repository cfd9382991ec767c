import ControlAPI
import Testing

@testable import Switch

/// What is said of an uplink's interface.
@Suite struct InterfaceStateTests {
  private func state(_ change: (inout InterfaceState) -> Void) -> InterfaceState {
    var state = InterfaceState(name: "tap0")
    change(&state)
    return state
  }

  @Test func eachConditionHasAStateAndASentence() {
    let table: [(InterfaceState.Condition, PortState, String)] = [
      (.up, .running, "carries frames"), (.down, .down, "is down (ip link set tap0 up)"),
      (.noCarrier, .down, "no carrier"),
      (.elsewhere(isUp: true), .running, "another network namespace"),
      (.elsewhere(isUp: false), .down, "down in another network namespace"),
      (.gone, .broken, "was deleted"),
    ]
    for (condition, shown, words) in table {
      let state = state { $0.condition = condition }
      #expect(state.portState == shown && state.carries == (shown == .running))
      #expect(state.explanation(mtu: nil).contains(words))
    }
  }

  @Test func whatHasChangedIsSaid() {
    let renamed = state { $0.name = "lan" }
    #expect(renamed.explanation(mtu: nil).contains("interface lan (tap0 when"))
    let narrow = state { $0.mtu = 1400 }
    #expect(narrow.explanation(mtu: 1500).contains("changed to 1400, the port's is 1500"))
    #expect(
      !narrow.explanation(mtu: 1400).contains("MTU")
        && !narrow.explanation(mtu: nil).contains("MTU"))
    let taken = state {
      $0.condition = .gone
      $0.whyUnusable = "in use"
    }
    #expect(taken.explanation(mtu: nil).contains("can't be used: in use"))
    let refused = state {
      $0.condition = .down
      $0.whyDown = "Operation not permitted"
    }
    #expect(
      refused.explanation(mtu: nil).contains("could not bring it up: Operation not permitted"))
  }

  @Test func aPortThatIsCutOffCarriesNothing() {
    let down = state { $0.isSetDown = true }
    #expect(!down.carries && down.portState == .down)
    #expect(
      down.explanation(mtu: nil)
        == "was set down (swivel port up), and no frame passes; otherwise: carries frames to and from the interface tap0"
    )
    let cut = state { $0.isCut = true }
    #expect(cut.portState == .down && !cut.carries)
    #expect(cut.explanation(mtu: nil).contains("cut off"))
    // A deleted interface is the worse news.
    let gone = state {
      $0.isCut = true
      $0.condition = .gone
    }
    #expect(gone.portState == .broken && !gone.explanation(mtu: nil).contains("cut off"))
  }
}
