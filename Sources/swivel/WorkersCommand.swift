internal import ArgumentParser
internal import ControlAPI
internal import ControlClient

struct WorkersAddCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "add",
    abstract: "Start a worker on a CPU; new ports give it queues, and so does 'rebalance'.")

  @Argument(help: "The CPU's number.")
  var cpu: Int
  @OptionGroup var common: CommonOptions

  func run() throws {
    let reply = try common.client.post("/v1/workers", WorkerRequest(cpu: cpu))
    if common.json {
      Output.write(String(decoding: reply, as: UTF8.self))
    } else {
      let worker = try ControlClient.decode(Worker.self, from: reply)
      Output.write("worker \(worker.id) runs on CPU \(worker.cpu), node \(worker.node)\n")
    }
  }
}

struct WorkersRemoveCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "remove",
    abstract: "Have other workers take a worker's queues, and end it. The last one stays.")

  @Argument(help: "The worker's number.")
  var number: Int?
  @Option(help: "The CPU that it runs on, in place of its number.")
  var cpu: Int?
  @OptionGroup var common: CommonOptions

  func validate() throws {
    if (number == nil) == (cpu == nil) {
      throw ValidationError("name the worker by its number, or by --cpu")
    }
  }

  func run() throws {
    try common.client.delete("/v1/workers/\(try named())")
  }

  private func named() throws -> Int {
    if let number { return number }
    let workers = try ControlClient.decode(
      [Worker].self, from: try common.client.get("/v1/workers"))
    guard let worker = workers.first(where: { $0.cpu == cpu }) else {
      throw ClientError("no worker runs on CPU \(cpu ?? 0)")
    }
    return worker.id
  }
}
