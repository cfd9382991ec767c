import CLinux
import Glibc
import Linux

@testable import VhostUser

/// A whole session: messages with descriptors of every kind, all written before it begins, in the same thread.
///
/// An input is a list of messages: request, flags (bit 7: the size is wrong by the byte that follows; bit 6: without
/// a payload of its own, the last bytes are cut off), number of descriptors and the kind of each, bytes of payload,
/// payload. What is held: what `Backend` promises its implementors (`MappingBackend`), and that nothing that was
/// opened or mapped is left.
enum SessionTarget {
  static func run(_ input: inout Input) {
    guard let files = StrangersFiles.shared else { return hold(false, "no descriptors") }
    let before = freeDescriptor()
    converse(&input, files)
    hold(freeDescriptor() == before, "a descriptor is left open")
  }

  /// In a function of its own: when it returns, the session and all of its descriptors are gone.
  @inline(never)
  private static func converse(_ input: inout Input, _ files: StrangersFiles) {
    guard let (ours, theirs) = try? UnixSocket.pair(), let stop = try? EventFD() else {
      return hold(false, "no sockets")
    }
    let backend = MappingBackend(translates: input.byte() & 1 != 0)
    var count = 0
    while !input.isEmpty, count < 64, send(&input, ours, files) { count += 1 }
    shutdown(ours.raw, CInt(SHUT_WR))
    let session = Session(connection: theirs, backend: backend, stop: stop)
    if case .stopped = session.run() { hold(false, "nobody stopped the session") }
    backend.holdIsOver()
  }

  private static func send(_ input: inout Input, _ socket: OwnedFD, _ files: StrangersFiles)
    -> Bool
  {
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

  /// The lowest number that a new descriptor would get.
  private static func freeDescriptor() -> CInt {
    let number = dup(0)
    close(number)
    return number
  }
}

/// What a front-end may attach to a message.
private final class StrangersFiles: Sendable {
  static let shared = try? StrangersFiles()

  let all: [OwnedFD]

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
      try EventFD().descriptor, try memory(1 << 16), try memory(1 << 16), try memory(4096),
      try memory(0), OwnedFD(taking: pipe[0]), OwnedFD(taking: pipe[1]), open("/dev/null", O_RDWR),
      open("/", O_RDONLY), open("/proc/self/status", O_RDONLY), sockets.0, datagrams,
    ]
    hold(all.allSatisfy { $0.raw >= 0 }, "a descriptor could not be opened")
  }
}
