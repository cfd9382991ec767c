internal import Linux

/// Memory for the data plane's own structures: from hugepages on a given node where there are any, in
/// whole cache lines, so that no two structures share one.
///
/// Used by control only; a worker never allocates. Not safe for several threads at once: the data
/// plane's lock guards it.
@safe final class Arena: @unchecked Sendable {
  /// Bytes of a cache line.
  static let line = 64

  let node: Int
  private(set) var pages: Hugepages.Pages = .ordinary
  private var chunks: [Mapping] = []
  private var next: UnsafeMutableRawPointer?
  private var remaining = 0
  private var free: [Int: FreeList] = [:]
  private let allowHuge: Bool

  /// Blocks of one size that were given back.
  @safe private struct FreeList {
    var blocks: [UnsafeMutableRawPointer] = unsafe []
  }

  init(node: Int, allowHuge: Bool = true) {
    self.node = node
    self.allowHuge = allowHuge
  }

  /// Memory, aligned to a cache line; a whole number of lines.
  ///
  /// - Parameter zeroed: `false`: the caller writes every byte that anybody reads.
  func allocate(bytes: Int, zeroed: Bool = true) throws(SystemError) -> UnsafeMutableRawPointer {
    #if FUZZING
      // A block by itself, so that the address sanitizer sees a step beyond it.
      let block = UnsafeMutableRawPointer.allocate(byteCount: bytes, alignment: Arena.line)
      unsafe block.initializeMemory(as: UInt8.self, repeating: 0, count: bytes)
      return unsafe block
    #else
      return unsafe try carve(bytes, zeroed: zeroed)
    #endif
  }

  private func carve(_ bytes: Int, zeroed: Bool) throws(SystemError) -> UnsafeMutableRawPointer {
    let size = Arena.rounded(bytes)
    if let reused = unsafe takeFree(size) {
      // SAFETY: a block of exactly this size, given back by `deallocate`.
      if zeroed { unsafe reused.initializeMemory(as: UInt8.self, repeating: 0, count: size) }
      return unsafe reused
    }
    if size > remaining {
      let (chunk, pages) = try Hugepages.allocate(
        max(size, 1 << 21), node: node, allowHuge: allowHuge)
      chunks.append(chunk)
      self.pages = pages
      unsafe next = unsafe chunk.base
      remaining = chunk.length
    }
    // SAFETY: `remaining` bytes from `next` belong to the newest chunk and to nobody else.
    let block = unsafe next.unsafelyUnwrapped
    unsafe next = unsafe block + size
    remaining -= size
    return unsafe block
  }

  private func takeFree(_ size: Int) -> UnsafeMutableRawPointer? {
    unsafe free[size]?.blocks.popLast()
  }

  /// Takes a block back, of the size it was asked for with. The caller knows that no worker holds it.
  func deallocate(_ block: UnsafeMutableRawPointer, bytes: Int) {
    #if FUZZING
      unsafe block.deallocate()
    #else
      unsafe free[Arena.rounded(bytes), default: FreeList()].blocks.append(block)
    #endif
  }

  private static func rounded(_ bytes: Int) -> Int {
    (max(bytes, 1) + line - 1) / line * line
  }
}
