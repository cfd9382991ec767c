internal import CVector

/// The common case of a receiveq: buffers of one descriptor.
///
/// SAFETY: a buffer's address is what the memory's table has proved to be mapped for header and frame.
extension SplitQueue {
  /// Delivers frames into buffers of one descriptor each, for as long as such come; returns how many, and their bytes.
  @inline(always)
  mutating func placePlain(
    _ burst: Burst, _ order: UnsafeMutablePointer<UInt16>, _ count: Int, limit: UInt32
  ) -> (frames: Int, bytes: Int) {
    let ready = available(count)
    let addresses = unsafe burst.addresses
    let lengths = unsafe burst.lengths
    let buffers = unsafe burst.buffers
    let ring = ring
    let headerSize = headerSize
    var lookup = memory.lookup(hint: region)
    var bytes = 0
    var run = 0
    var plain = 0
    let natural = Int(unsafe order[0])
    if burst.vectors, ready > 0, unsafe Int(order[ready &- 1]) &- natural == ready &- 1 {
      // The frames follow each other in the burst too.
      // SAFETY: `ready` frames from `natural` are in the burst, and the ring's parts and the region are as they
      // were proved.
      run = Int(
        unsafe withUnsafePointer(to: vector) { ring in
          unsafe withUnsafePointer(to: lookup.vector) { region in
            unsafe cvx_place_split(
              ring, UInt32(truncatingIfNeeded: ready), region, headerSize, limit,
              addresses + natural, lengths + natural, buffers)
          }
        })
      plain = run
      for index in natural..<(natural &+ run) { bytes &+= Int(unsafe lengths[index]) }
    }
    while run < ready {
      let index = Int(unsafe order[run])
      let length = unsafe lengths[index]
      if length > limit { break }
      let step = UInt16(truncatingIfNeeded: run)
      let head = ring.availEntry(nextAvail &+ step)
      if head >= ring.size { break }
      let descriptor = unsafe Descriptor(ring.descriptors, head)
      let needed = headerSize &+ length
      if descriptor.flags & (Descriptor.next | Descriptor.write | Descriptor.indirect)
        != Descriptor.write || descriptor.length < needed
      {
        break
      }
      if !lookup.covers(descriptor.address, needed) {
        guard unsafe memory.translate(descriptor.address, needed, hint: &region) != nil
        else { break }
        lookup = memory.lookup(hint: region)
      }
      unsafe buffers[run] = lookup.place(descriptor.address)
      ring.setUsed(nextUsed &+ step, head: head, written: needed)
      bytes &+= Int(length)
      run &+= 1
    }
    nextAvail &+= UInt16(truncatingIfNeeded: run)
    nextUsed &+= UInt16(truncatingIfNeeded: run)

    unsafe burst.copy(order, run, plain: plain, headerSize: headerSize)
    return (run, bytes)
  }
}
