/// One thing that is wrong with a request, and where.
public struct RequestFault: Sendable, Equatable {
  /// The keys that lead to the value, as in `["vhost-user", "queues"]`; empty: the request as a whole.
  public var keys: [String]
  public var message: String
  /// What a request is refused as that has no other fault.
  public var kind: ServiceError.Kind

  public init(_ keys: [String], _ message: String, _ kind: ServiceError.Kind = .invalid) {
    self.keys = keys
    self.message = message
    self.kind = kind
  }
}

/// The rules that a port has to keep wherever it comes from: the configuration file and the control
/// socket ask here, so that neither accepts what the other refuses.
extension PortRequest {
  /// The keys of a port, in the order that messages list them.
  public static let keys = ["name"] + PortKind.allCases.map(\.rawValue) + ["mtu", "macs", "link"]

  /// Throws everything that is wrong, separated by semicolons: as `.invalid`, unless all of it is of another kind.
  public func validate() throws(ServiceError) {
    let faults = self.faults
    guard let first = faults.first else { return }
    let kind = faults.allSatisfy { $0.kind == first.kind } ? first.kind : .invalid
    throw ServiceError(kind, faults.map(\.message).joined(separator: "; "))
  }

  /// Everything that is wrong with the request; empty when nothing is.
  public var faults: [RequestFault] {
    var faults: [RequestFault] = []
    if !PortRequest.isName(name) {
      faults.append(
        RequestFault(
          ["name"],
          "name must be 1 to 64 characters of A-Z a-z 0-9 . _ -, not \(quoted(name))"))
    }
    let kinds = attachments.map { type(of: $0).kind.rawValue }
    if kinds.isEmpty {
      faults.append(
        RequestFault([], "a port needs \(alternatives(PortKind.allCases.map(\.rawValue)))"))
    } else if kinds.count > 1 {
      let most = kinds.count == 2 ? "not both" : "only one of them"
      faults.append(RequestFault([kinds[1]], "a port has \(alternatives(kinds)), \(most)"))
    } else {
      faults += attachments[0].faults
    }
    if let mtu, !(68...65535).contains(mtu) {
      faults.append(RequestFault(["mtu"], "mtu must be 68 to 65535 bytes, not \(mtu)"))
    }
    if let macs, !(1...(1 << 24)).contains(macs) {
      faults.append(
        RequestFault(["macs"], "macs must be 1 to \(1 << 24) addresses, not \(macs)"))
    }
    return faults
  }

  private static func isName(_ name: String) -> Bool {
    // "." and ".." would be changed on their way through a URL's path.
    if name == "." || name == ".." { return false }
    return (1...64).contains(name.utf8.count)
      && name.utf8.allSatisfy {
        switch $0 {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
          UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "."), UInt8(ascii: "_"),
          UInt8(ascii: "-"):
          return true
        default:
          return false
        }
      }
  }
}

extension PortRequest {
  /// What only this port may have of a switch, its name aside.
  public var claims: [Claim] { attachments.flatMap { $0.claims } }

  /// What this port claims that another has.
  public func claim(takenBy other: PortRequest) -> Claim? {
    let taken = other.claims
    return claims.first { claim in taken.contains(where: claim.collides) }
  }

  /// Whether both can't exist in one switch.
  public func collides(with other: PortRequest) -> Bool {
    name == other.name || claim(takenBy: other) != nil
  }

  /// The Unix socket at which the port meets its peer, where it has one.
  public var socket: PortSocket? { attachment?.socket }

  /// What a port of this kind needs of the kernel.
  public var needs: SystemNeeds { attachment.map { type(of: $0).needs } ?? SystemNeeds() }
}

/// What is wrong with the path of a Unix socket (`"must be …"`), or `nil` when nothing is.
public func socketPathFault(_ path: String) -> String? {
  if !path.hasPrefix("/") { return "must be an absolute path, not \(quoted(path))" }
  if path.hasSuffix("/") { return "must name a socket, not the directory \(quoted(path))" }
  if path.utf8.contains(0) { return "must not contain a zero byte" }
  // sun_path holds 108 bytes, the last of them zero.
  let length = path.utf8.count
  return length <= 107 ? nil : "must be at most 107 bytes long, not \(length)"
}

/// The six bytes of `52:54:00:12:34:56`, or with `-` between them; `nil` when it is no such address.
public func addressBytes(_ text: String) -> [UInt8]? {
  let parts = text.split(omittingEmptySubsequences: false) { $0 == ":" || $0 == "-" }
  let bytes = parts.compactMap { part -> UInt8? in
    let isHexadecimal =
      part.utf8.count == 2
      && part.utf8.allSatisfy {
        (0x30...0x39).contains($0) || (0x41...0x46).contains($0) || (0x61...0x66).contains($0)
      }
    return isHexadecimal ? UInt8(part, radix: 16) : nil
  }
  return parts.count == 6 && bytes.count == 6 ? bytes : nil
}

/// An absolute path without what changes nothing: `/run//a/./b` is `/run/a/b`. Links and ".." stay, for they depend on
/// what is there.
public func plainPath(_ path: String) -> String {
  let parts = path.split(separator: "/").filter { $0 != "." }
  return (path.hasPrefix("/") ? "/" : "") + parts.joined(separator: "/")
}

/// The bits of `"0660"` or `"660"`; `nil` when it is not an octal number of file permissions.
public func permissionBits(_ text: String) -> UInt32? {
  guard (3...4).contains(text.utf8.count), text.utf8.allSatisfy({ (0x30...0x37).contains($0) }),
    let bits = UInt32(text, radix: 8), bits <= 0o777
  else { return nil }
  return bits
}

/// Regions of guest memory that a port may let its front-end share: QEMU asks for no more than 512.
public let regionLimits = 1...512

/// The bytes of `"512M"`, `"64G"` or `"1T"`, in powers of 1024; `nil` when it is no such size from 1 MiB to 64 TiB.
public func memorySize(_ text: String) -> UInt64? {
  let units: [Character: Int] = ["M": 20, "G": 30, "T": 40]
  guard let shift = text.last.flatMap({ units[$0] }), let first = text.utf8.first,
    (UInt8(ascii: "1")...UInt8(ascii: "9")).contains(first), let count = UInt64(text.dropLast()),
    count <= 1 << UInt64(46 - shift)
  else { return nil }
  return count << UInt64(shift)
}

/// The message for a key that nobody knows, with what was expected and the likeliest intention.
public func unknownKey(_ key: String, in place: String, expected: [String]) -> String {
  var message = "unknown key \(quoted(key)) in \(place); expected \(alternatives(expected))"
  let near = expected.map { ($0, distance(key, $0)) }.min { $0.1 < $1.1 }
  if let (name, edits) = near, edits <= max(1, name.count / 3) {
    message += " (did you mean '\(name)'?)"
  }
  return message
}

/// The words as a choice: `a`, `a or b`, `a, b or c`.
private func alternatives(_ words: [String]) -> String {
  guard words.count > 1, let last = words.last else { return words.joined() }
  return words.dropLast().joined(separator: ", ") + " or " + last
}

/// The text in single quotes, shortened and without control characters: fit for one line of a log.
public func quoted(_ text: String) -> String {
  let shown = text.unicodeScalars.prefix(80).map { $0.value < 0x20 || $0.value == 0x7f ? "?" : $0 }
  let tail = text.unicodeScalars.count > 80 ? "…" : ""
  return "'\(String(String.UnicodeScalarView(shown)))\(tail)'"
}

/// The edits between two keys: letters added, removed, changed, or swapped with their neighbour.
private func distance(_ left: String, _ right: String) -> Int {
  let left = Array(left.lowercased().utf8.prefix(64))
  let right = Array(right.lowercased().utf8)
  var rows = [Array(0...right.count)]
  for i in left.indices {
    var row = [i + 1]
    for j in right.indices {
      var least = min(rows[i][j + 1] + 1, row[j] + 1, rows[i][j] + (left[i] == right[j] ? 0 : 1))
      if i > 0, j > 0, left[i] == right[j - 1], left[i - 1] == right[j] {
        least = min(least, rows[i - 1][j - 1] + 1)
      }
      row.append(least)
    }
    rows.append(row)
  }
  return rows[left.count][right.count]
}
