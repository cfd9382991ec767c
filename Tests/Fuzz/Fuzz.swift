import Glibc

/// What libFuzzer calls: one program with every target, which runs the one that it is named after.
///
/// Theory of operation. `scripts/fuzz` compiles all modules of the switch with libFuzzer's coverage counters and the
/// address sanitizer, and links them once. libFuzzer makes inputs and calls `LLVMFuzzerTestOneInput` with each; an
/// input that reaches something new is kept and changed further. A target must do the same for the same input, must
/// be quick (thousands of inputs a second), and ends the process when something does not hold: by a trap of Swift's,
/// a report of the sanitizer's, or `hold`. The input is then written to a file, which belongs into the target's
/// `regressions`.
private let targets: [String: @Sendable (inout Input) -> Void] = [
  "message": { MessageTarget.run(&$0) },
  "session": { SessionTarget.run(&$0) },
  "port": { PortTarget.run(&$0) },
  "split": { RingTarget.run(&$0, packed: false) },
  "packed": { RingTarget.run(&$0, packed: true) },
  "offloads": { OffloadTarget.run(&$0) },
  "configuration": { ConfigurationTarget.run(&$0) },
  "http": { HTTPTarget.run(&$0) },
]

/// Set once, before the first input.
nonisolated(unsafe) private var target: @Sendable (inout Input) -> Void = { _ in }

@c(LLVMFuzzerInitialize) public func start(
  _ count: UnsafeMutablePointer<CInt>,
  _ arguments: UnsafeMutablePointer<UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>>
) -> CInt {
  let path = String(cString: arguments.pointee[0]!)
  let name = path.split(separator: "/").last.map(String.init) ?? ""
  guard let named = targets[name] else {
    print("there is no fuzz target \(name), only \(targets.keys.sorted())")
    exit(2)
  }
  target = named
  return 0
}

@c(LLVMFuzzerTestOneInput) public func test(_ bytes: UnsafePointer<UInt8>, _ count: Int) -> CInt {
  // A copy of its own, so that a step beyond it is seen.
  var input = Input(Array(UnsafeBufferPointer(start: bytes, count: count)))
  target(&input)
  return 0
}

/// Ends the process, in a release build too, unless `condition` holds.
func hold(_ condition: Bool, _ message: @autoclosure () -> String) {
  if !condition { fatalError(message()) }
}
