import Testing

/// Bytes over TCP that flow until they are told to end; then the checksums of both ends are compared. Whoever calls says where the
/// guest is by now.
struct Stream {
  let stop: (Guest) throws -> Void
  let sent: (Guest) throws -> String
  let received: (Guest) throws -> String

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
