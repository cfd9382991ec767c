import Glibc
import Linux

@testable import VhostUser

/// A whole session: messages with descriptors of every kind, all written before it begins, in the same thread.
///
/// An input is a byte (bit 0: there may be an IOMMU), and what `ScriptedFrontEnd` makes messages of.
///
/// What is held: what `Backend` promises its implementors (`MappingBackend`), and that nothing that was
/// opened or mapped is left.
enum SessionTarget {
  static func run(_ input: inout Input) {
    guard StrangersFiles.shared != nil else { return hold(false, "no descriptors") }
    let before = freeDescriptor()
    converse(&input)
    hold(freeDescriptor() == before, "a descriptor is left open")
  }

  /// In a function of its own: when it returns, the session and all of its descriptors are gone.
  @inline(never)
  private static func converse(_ input: inout Input) {
    guard let stop = try? EventFD() else { return hold(false, "no descriptor") }
    let backend = MappingBackend(translates: input.byte() & 1 != 0)
    // Until the session is over; else it could not answer.
    guard let frontEnd = ScriptedFrontEnd(&input) else { return hold(false, "no sockets") }
    let session = Session(connection: frontEnd.takeConnection(), backend: backend, stop: stop)
    if case .stopped = session.run() { hold(false, "nobody stopped the session") }
    backend.holdIsOver()
  }

  /// The lowest number that a new descriptor would get.
  static func freeDescriptor() -> CInt {
    let number = dup(0)
    close(number)
    return number
  }
}
