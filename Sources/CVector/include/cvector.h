// The short loops over plain frames, in AVX-512, for processors that have it: eight descriptors at a time, and 64
// bytes at a time.
//
// Functions over descriptors take as many as are plain, in order, and says how many; the caller goes on from there in
// Swift, which alone has every case. A processor without the instructions must not call them. What
// is judged is in registers: no word of shared memory is loaded twice.
#ifndef CVECTOR_H
#define CVECTOR_H

#include <stdint.h>

#define CVECTOR_PURE __attribute__((swift_attr("@_noLocks"), swift_attr("@_noAllocation")))

/// A region of guest memory: guest physical address of its first byte, bytes, and the first byte here.
struct cvx_region {
  uint64_t start;
  uint64_t size;
  uint64_t host;
};

/// A split ring, and how far its user is.
struct cvx_split {
  /// `size` descriptors of 16 bytes.
  const void *descriptors;
  /// The first entry of the avail ring.
  const void *avail;
  /// The first entry of the used ring.
  void *used;
  /// A power of two.
  uint32_t size;
  /// Positions of the next entries, not reduced to the ring.
  uint32_t nextAvail;
  uint32_t nextUsed;
};

/// Whether this processor has the instructions of the functions below.
int cvx_available(void);

/// Takes up to `count` chains of one device-readable descriptor of `least` to `most` bytes inside `region`:
/// writes the address of byte `headerSize` and the bytes from there on, and a used entry of length 0 for each.
uint32_t cvx_take_split(const struct cvx_split *ring, uint32_t count, const struct cvx_region *region,
                        uint32_t headerSize, uint32_t least, uint32_t most, uintptr_t *addresses,
                        uint32_t *lengths) CVECTOR_PURE;

/// Sets up to `count` buffers aside, of one device-writable descriptor each that has room inside `region` for
/// `headerSize` bytes and a frame of `lengths[i]`, none above `limit` and none with `addresses[i]` 0: writes
/// their addresses and a used entry with the bytes to be written for each.
uint32_t cvx_place_split(const struct cvx_split *ring, uint32_t count, const struct cvx_region *region,
                         uint32_t headerSize, uint32_t limit, const uintptr_t *addresses,
                         const uint32_t *lengths, uintptr_t *buffers) CVECTOR_PURE;

/// Descriptors of a packed ring that follow each other in memory, and what becomes of those that are taken.
struct cvx_packed {
  /// The first of `count` descriptors of 16 bytes.
  void *descriptors;
  uint32_t count;
  /// 1: the first is not written, as it is published last.
  uint32_t hold;
  /// 1: none is written, as one used element stands for all.
  uint32_t batch;
  /// The bits AVAIL and USED of an available descriptor, and of a used one, in bits 48 to 63.
  uint64_t available;
  uint64_t used;
  /// The second words that the first and the last one taken should have: ids, and `used`, and for a receiveq the
  /// flag WRITE and the bytes written.
  uint64_t first;
  uint64_t last;
};

/// Takes available descriptors as `cvx_take_split` takes chains; marks them as used.
uint32_t cvx_take_packed(struct cvx_packed *ring, const struct cvx_region *region, uint32_t headerSize,
                         uint32_t least, uint32_t most, uintptr_t *addresses, uint32_t *lengths) CVECTOR_PURE;

/// Sets available descriptors aside as `cvx_place_split` does; marks them as used.
uint32_t cvx_place_packed(struct cvx_packed *ring, const struct cvx_region *region, uint32_t headerSize,
                          uint32_t limit, const uintptr_t *addresses, const uint32_t *lengths,
                          uintptr_t *buffers) CVECTOR_PURE;

/// Copies `count` frames, frame `order[i]` to `buffers[i]`: a virtio-net header of `headerSize` bytes, zero but for a
/// count of one buffer, the frame's first 16 bytes from `headers`, and what follows them from `addresses`. Every
/// frame has at least 16 bytes, and every buffer room for all of it.
void cvx_copy(const uint16_t *order, uint32_t count, const uintptr_t *addresses, const uint32_t *lengths,
              const void *headers, const uintptr_t *buffers, uint32_t headerSize) CVECTOR_PURE;

#endif
