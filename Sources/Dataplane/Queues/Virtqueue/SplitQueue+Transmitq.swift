internal import CLinux
internal import CVector

/// The common case of a transmitq: frames of one descriptor.
///
/// SAFETY: a frame's address is what the memory's table has proved to be mapped for the frame's length; frame
/// indices stay below the burst's size.
extension SplitQueue {
  /// Takes chains of one descriptor that holds header and frame, for as long as they come; returns how many.
  /// Nothing of the frames themselves is looked at.
  @inline(always)
  mutating func takePlain(_ burst: Burst, from first: Int, to end: Int, longest: Int) -> Int {
    let addresses = unsafe burst.addresses
    let lengths = unsafe burst.lengths
    let ring = ring
    let least = headerSize &+ UInt32(EthernetHeader.held)
    let range = UInt32(truncatingIfNeeded: longest &- EthernetHeader.held)
    var lookup = memory.lookup(hint: region)
    var index = first
    if burst.vectors {
      let most = headerSize &+ UInt32(truncatingIfNeeded: longest)
      // SAFETY: `end` is at most the burst's size, and the ring's parts and the region are as they were proved.
      index &+= Int(
        unsafe withUnsafePointer(to: vector) { ring in
          unsafe withUnsafePointer(to: lookup.vector) { region in
            unsafe cvx_take_split(
              ring, UInt32(truncatingIfNeeded: end &- first), region, headerSize, least, most,
              addresses + first, lengths + first)
          }
        })
    }
    while index < end {
      let step = UInt16(truncatingIfNeeded: index &- first)
      let head = ring.availEntry(nextAvail &+ step)
      if head >= ring.size { break }
      let descriptor = unsafe Descriptor(ring.descriptors, head)
      if descriptor.flags & (Descriptor.next | Descriptor.write | Descriptor.indirect) != 0 {
        break
      }
      let length = descriptor.length &- least
      // Also true when the subtraction wrapped.
      if length > range { break }
      if !lookup.covers(descriptor.address, descriptor.length) {
        guard unsafe memory.translate(descriptor.address, descriptor.length, hint: &region) != nil
        else { break }
        lookup = memory.lookup(hint: region)
      }
      unsafe addresses[index] = lookup.place(descriptor.address) &+ UInt(headerSize)
      unsafe lengths[index] = length &+ UInt32(EthernetHeader.held)
      ring.setUsed(nextUsed &+ step, head: head, written: 0)
      index &+= 1
    }
    let taken = UInt16(truncatingIfNeeded: index &- first)
    nextAvail &+= taken
    nextUsed &+= taken
    return index &- first
  }
}
