import CVector
import Glibc
import Linux

/// Why nothing was counted: one sentence for a person.
struct CountError: Error, CustomStringConvertible {
  let description: String
  init(_ description: String) { self.description = description }
}

/// Runs fixed workloads through one worker, in one thread: the same instructions in every run, for
/// `scripts/instructions` to count. Prints a line for each: its name and what its count is to be divided by. With the
/// argument `changes` it measures what changes cost control.
@main struct Main {
  static func main() {
    do {
      switch Array(CommandLine.arguments.dropFirst()) {
      case []: break
      case ["changes"]:
        try Changes.run()
        return
      case let others:
        throw CountError(
          "not known: \(others.joined(separator: " ")); usage: swivel-count [changes]")
      }
      // What is counted must be what every machine runs.
      if cvx_available() != 0 {
        print("swivel-count: this processor has AVX-512: not the instructions of the thresholds")
      }
      for workload in Workload.all {
        let bed = try Bed(workload)
        try bed.run(Workload.warmUp)
        mark()
        try bed.run(workload.rounds)
        mark()
        print(workload.name, bed.units)
        bed.stop()
      }
    } catch {
      print("swivel-count: \(error)")
      exit(1)
    }
  }
}

/// Between what is counted and what is not; its name is what callgrind looks for.
@c(swivel_count_mark) @inline(never)
func mark() { fflush(nil) }
