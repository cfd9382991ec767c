import Testing

/// Bytes over TCP that flow until they are told to end; then the checksums of both ends are compared. Whoever calls says where the
/// guest is by now.
struct Stream {
  let stop: (Guest) throws -> Void
  /// The checksum, once all was sent.
  let sent: (Guest) throws -> String
  /// The checksum, once the end has come.
  let received: (Guest) throws -> String

  /// From one guest to another: one block again and again, each time behind its number, as fresh bytes would take a guest's CPU.
  static func start(from: Guest, to: Guest, at address: String, port: Int) throws -> Stream {
    let family = address.contains(":") ? "-6" : "-4"
    let (there, here) = ("/tmp/received-\(port)", "/tmp/sender-\(port)")
    try to.run(
      "{ nc.openbsd \(family) -d -l \(port) | md5sum >/tmp/sum; mv /tmp/sum \(there); } >/dev/null 2>&1 &"
        + " \(untilListening(port))")
    let sender = sender(
      of: "i=$((i + 1)); printf %08d $i; cat /tmp/block", to: address, port: port, in: here)
    try from.run("head -c 65528 /dev/urandom >/tmp/block; { \(sender); } >/dev/null 2>&1 &")
    return Stream(
      stop: { _ in try from.run("touch \(here)/stop") },
      sent: { _ in try from.run(awaited("\(here)/sent"), within: 60) },
      received: { _ in try to.run(awaited(there), within: 60) })
  }

  /// A line that waits until somebody listens to a port, in a guest.
  static func untilListening(_ port: Int) -> String {
    "for i in $(seq 100); do netstat -ltn | grep -q ':\(port) ' && exit; sleep 0.1; done; exit 1"
  }

  /// A shell's line, ours or the guest's, that sends what `block` says again and again until there is a file `stop` in `folder`, and
  /// leaves the checksum in `sent`.
  static func sender(of block: String, to address: String, port: Int, in folder: String) -> String {
    "mkdir \(folder) && cd \(folder) && mkfifo pipe && { md5sum <pipe >sum & } && i=0"
      + " && while [ ! -e stop ]; do \(block); sleep 0.02; done | tee pipe"
      + " | nc.openbsd -N \(address) \(port) && wait && mv sum sent"
  }

  /// A line that says what is in a file once it is there.
  static func awaited(_ file: String) -> String {
    "for i in $(seq 200); do [ -e \(file) ] && break; sleep 0.2; done; cat \(file)"
  }

  /// Ends the stream: what was received must be what was sent.
  func finish(_ guest: Guest, sourceLocation: SourceLocation = #_sourceLocation) throws {
    try stop(guest)
    let sum = try sent(guest).prefix(32)
    #expect(sum.count == 32, sourceLocation: sourceLocation)
    // That of nothing.
    #expect(sum != "d41d8cd98f00b204e9800998ecf8427e", sourceLocation: sourceLocation)
    #expect(try received(guest).prefix(32) == sum, sourceLocation: sourceLocation)
  }
}
