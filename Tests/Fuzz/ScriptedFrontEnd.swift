import CLinux
import Glibc
import Linux

@testable import VhostUser

/// The front-end's end of a connection, on which everything has been said: messages with descriptors of every kind.
///
/// Of an input each message takes: request, flags (bit 7: the size is wrong, by the byte that follows less 128), number
/// of descriptors and the kind of each, bytes of payload, payload.
final class ScriptedFrontEnd {
  private let socket: OwnedFD
  private var connection: OwnedFD?

  /// Takes all that is left of the input, or as much as there is room for.
  init?(_ input: inout Input) {
    guard let files = StrangersFiles.shared, let (ours, theirs) = try? UnixSocket.pair() else {
      return nil
    }
    var count = 0
    while !input.isEmpty, count < 64, ScriptedFrontEnd.send(&input, ours, files) { count += 1 }
    shutdown(ours.raw, CInt(SHUT_WR))
    socket = ours
    connection = theirs
  }

  /// The session's end; nobody else keeps it.
  func takeConnection() -> OwnedFD {
    defer { connection = nil }
    return connection.unsafelyUnwrapped
  }

  private static func send(
    _ input: inout Input, _ socket: OwnedFD, _ files: StrangersFiles
  ) -> Bool {
    let code = UInt32(input.byte())
    let flags = input.byte()
    let surplus = flags & 0x80 != 0 ? Int(input.byte()) - 128 : 0
    let descriptors = (0..<Int(input.byte() % 12)).map { _ in
      files.all[Int(input.byte()) % files.all.count]
    }
    let payload = input.take(Int(input.byte()))
    let size = UInt32(max(0, payload.count + surplus))
    let header = Header(code: code, flags: UInt32(flags & 0x3F), size: size)
    let bytes = header.bytes + payload
    let sent = bytes.withUnsafeBytes { try? UnixSocket.send(socket, $0, descriptors: descriptors) }
    return sent == bytes.count
  }
}

/// What a front-end may attach to a message.
final class StrangersFiles: Sendable {
  static let shared = try? StrangersFiles()

  static let memoryLength = 1 << 16

  let all: [OwnedFD]
  /// The first that can be mapped.
  var memory: OwnedFD { all[1] }

  private init() throws {
    func memory(_ bytes: Int) throws -> OwnedFD {
      let file = OwnedFD(taking: try SystemError.check(clx_memfd("fuzz", 0), "memfd"))
      ftruncate(file.raw, bytes)
      return file
    }
    func open(_ path: String, _ flags: CInt) -> OwnedFD {
      OwnedFD(taking: Glibc.open(path, flags | O_CLOEXEC))
    }
    var pipe: [CInt] = [-1, -1]
    _ = Glibc.pipe(&pipe)
    let sockets = try UnixSocket.pair()
    // It is never read and soon full.
    let datagrams = OwnedFD(taking: socket(AF_UNIX, CInt(SOCK_DGRAM.rawValue), 0))
    all = [
      try EventFD().descriptor, try memory(StrangersFiles.memoryLength),
      try memory(StrangersFiles.memoryLength), try memory(4096),
      try memory(0), OwnedFD(taking: pipe[0]), OwnedFD(taking: pipe[1]), open("/dev/null", O_RDWR),
      open("/", O_RDONLY), open("/proc/self/status", O_RDONLY), sockets.0, datagrams,
    ]
    hold(all.allSatisfy { $0.raw >= 0 }, "a descriptor could not be opened")
  }
}
