internal import Dataplane
internal import Linux
internal import Logging

/// Finding the front-end for whose memory workers had to wait, and ending that (decision 16).
///
/// A worker can tell that it had to wait, but not for whom: a copy touches two guests' memory. Control can: memory that is
/// being given back leaves its file smaller, in blocks. So of the ports whose front-ends have given much back just before
/// a worker has waited, the one that has given most is the one.
extension Switch {
  /// Bytes given back that can make a worker wait for as long as is noticed.
  private static let suspicious = 16 << 20

  /// Workers had to wait, for so long together, since the last look at the ports.
  func endStalls(milliseconds: Int) {
    let most = allPorts.max { $0.memoryGivenBack < $1.memoryGivenBack }
    guard let port = most, port.memoryGivenBack >= Switch.suspicious else {
      if allowsLine("stalls") {
        logger.notice(
          "workers waited \(milliseconds) ms for guests' memory, of which none was given back: memory that is swapped, or was never touched"
        )
      }
      return
    }
    port.endStalls(milliseconds: milliseconds)
  }
}

/// The files that a front-end has shared, and how large they have been of late.
struct SharedFiles {
  /// Sizes that are kept: of the looks of two seconds.
  private static let looks = 10

  private var files: [OwnedFD] = []
  private var sizes: [Int] = []

  /// - Parameter regions: what is mapped from now on; several may lie in one file.
  mutating func replace(by regions: [OwnedFD]) {
    files = []
    for file in regions where !files.contains(where: { $0 === file }) { files.append(file) }
    sizes = []
  }

  /// Looks at how much of the files there is.
  mutating func measure() {
    if files.isEmpty { return }
    sizes.append(files.reduce(0) { $0 + $1.allocatedBytes })
    if sizes.count > SharedFiles.looks { sizes.removeFirst() }
  }

  /// Bytes that there were within the last looks and are no more.
  var givenBack: Int { (sizes.max() ?? 0) - (sizes.last ?? 0) }

  mutating func forget() { sizes = [] }
}
