#include "cvector.h"

#if defined(__x86_64__)

#include <immintrin.h>
#include <linux/virtio_ring.h>

#define AVX512 __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,bmi2")))

int cvx_available(void) {
  __builtin_cpu_init();
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
         __builtin_cpu_supports("bmi2");
}

/// Makes what was loaded from a guest's memory a value of its own: from here on the compiler can't load it again, and so
/// not see other bytes than those that were judged. Costs no instruction.
#define PIN(vector) __asm__("" : "+v"(vector))

static inline uint32_t least_of(uint32_t a, uint32_t b) { return a < b ? a : b; }

/// Eight descriptors named by consecutive avail entries.
struct group {
  __m512i heads;
  __m512i address;
  /// Length in bits 0 to 31, flags in 32 to 47.
  __m512i rest;
  /// Those whose head is in the table.
  __mmask8 valid;
};

/// Two descriptors beside each other.
AVX512 static inline __m256i pair(const __m128i *table, uint64_t a, uint64_t b) {
  return _mm256_inserti128_si256(_mm256_castsi128_si256(_mm_loadu_si128(table + a)),
                                 _mm_loadu_si128(table + b), 1);
}

/// The four descriptors that bits `shift` and `shift + 32` on of two words name.
AVX512 static inline __m512i four(const __m128i *table, uint64_t low, uint64_t high, unsigned shift) {
  const unsigned a = shift, b = shift + 32;
  return _mm512_inserti64x4(
      _mm512_castsi256_si512(pair(table, (uint16_t)(low >> a), (uint16_t)(low >> b))),
      pair(table, (uint16_t)(high >> a), (uint16_t)(high >> b)), 1);
}

/// Loads are faster than the gather instructions, on processors with a remedy against "Downfall" seven times.
AVX512 static inline struct group load(const struct cvx_split *ring, uint32_t at, __mmask8 wanted) {
  struct group g;
  const uint16_t *entries = (const uint16_t *)ring->avail + at;
  __m128i heads = _mm_maskz_loadu_epi16(wanted, entries);
  PIN(heads);
  g.heads = _mm512_cvtepu16_epi64(heads);
  g.valid = _mm512_mask_cmplt_epu64_mask(wanted, g.heads, _mm512_set1_epi64(ring->size));
  // Whatever the guest wrote, these name descriptors that are there.
  const __m128i safe = _mm_and_si128(heads, _mm_set1_epi16((short)(ring->size - 1)));
  const uint64_t low = (uint64_t)_mm_cvtsi128_si64(safe), high = (uint64_t)_mm_extract_epi64(safe, 1);
  // Descriptors 0 2 4 6 and 1 3 5 7: taking the first words of both in turn gives 0 1 2 … 7.
  const __m512i even = four(ring->descriptors, low, high, 0);
  const __m512i odd = four(ring->descriptors, low, high, 16);
  g.address = _mm512_unpacklo_epi64(even, odd);
  g.rest = _mm512_unpackhi_epi64(even, odd);
  PIN(g.address);
  PIN(g.rest);
  return g;
}

/// Those of `mask` whose three flags are `flags`.
AVX512 static inline __mmask8 with_flags(struct group g, __mmask8 mask, uint64_t flags) {
  const uint64_t all = VRING_DESC_F_NEXT | VRING_DESC_F_WRITE | VRING_DESC_F_INDIRECT;
  const __m512i found = _mm512_and_si512(g.rest, _mm512_set1_epi64((long long)(all << 32)));
  return _mm512_mask_cmpeq_epi64_mask(mask, found, _mm512_set1_epi64((long long)(flags << 32)));
}

/// Those of `mask` of which `length` bytes lie inside the region. Nothing can wrap: the offset is known to be
/// below the size before it is subtracted.
AVX512 static inline __mmask8 inside(__mmask8 mask, __m512i offset, __m512i length,
                                     const struct cvx_region *region) {
  const __m512i size = _mm512_set1_epi64((long long)region->size);
  mask = _mm512_mask_cmplt_epu64_mask(mask, offset, size);
  return _mm512_mask_cmple_epu64_mask(mask, length, _mm512_sub_epi64(size, offset));
}

/// The first of a group up to the first that is missing.
static inline uint32_t leading(__mmask8 mask) { return (uint32_t)__builtin_ctz(~(uint32_t)mask); }

AVX512 uint32_t cvx_take_split(const struct cvx_split *ring, uint32_t count,
                               const struct cvx_region *region, uint32_t headerSize, uint32_t least,
                               uint32_t most, uintptr_t *addresses, uint32_t *lengths) {
  const __m512i low = _mm512_set1_epi64(0xFFFFFFFF);
  const __m512i header = _mm512_set1_epi64(headerSize);
  uint32_t done = 0;
  while (done < count) {
    const uint32_t from = (ring->nextAvail + done) & (ring->size - 1);
    const uint32_t to = (ring->nextUsed + done) & (ring->size - 1);
    const uint32_t step =
        least_of(8, least_of(count - done, least_of(ring->size - from, ring->size - to)));
    const struct group g = load(ring, from, (__mmask8)((1u << step) - 1));
    const __m512i length = _mm512_and_si512(g.rest, low);
    const __m512i offset = _mm512_sub_epi64(g.address, _mm512_set1_epi64((long long)region->start));
    __mmask8 good = with_flags(g, g.valid, 0);
    good = _mm512_mask_cmpge_epu64_mask(good, length, _mm512_set1_epi64(least));
    good = _mm512_mask_cmple_epu64_mask(good, length, _mm512_set1_epi64(most));
    good = inside(good, offset, length, region);
    const uint32_t taken = leading(good);
    const __mmask8 mask = (__mmask8)((1u << taken) - 1);
    const __m512i place = _mm512_add_epi64(
        _mm512_add_epi64(offset, header), _mm512_set1_epi64((long long)region->host));
    _mm512_mask_storeu_epi64(addresses + done, mask, place);
    _mm512_mask_cvtepi64_storeu_epi32(lengths + done, mask, _mm512_sub_epi64(length, header));
    _mm512_mask_storeu_epi64((uint64_t *)ring->used + to, mask, g.heads);
    done += taken;
    if (taken < step) break;
  }
  return done;
}

AVX512 uint32_t cvx_place_split(const struct cvx_split *ring, uint32_t count,
                                const struct cvx_region *region, uint32_t headerSize, uint32_t limit,
                                const uintptr_t *addresses, const uint32_t *lengths,
                                uintptr_t *buffers) {
  const __m512i low = _mm512_set1_epi64(0xFFFFFFFF);
  uint32_t done = 0;
  while (done < count) {
    const uint32_t from = (ring->nextAvail + done) & (ring->size - 1);
    const uint32_t to = (ring->nextUsed + done) & (ring->size - 1);
    const uint32_t step =
        least_of(8, least_of(count - done, least_of(ring->size - from, ring->size - to)));
    const __mmask8 wanted = (__mmask8)((1u << step) - 1);
    const struct group g = load(ring, from, wanted);
    const __m512i frame = _mm512_cvtepu32_epi64(_mm256_maskz_loadu_epi32(wanted, lengths + done));
    const __m512i source = _mm512_maskz_loadu_epi64(wanted, addresses + done);
    const __m512i needed = _mm512_add_epi64(frame, _mm512_set1_epi64(headerSize));
    const __m512i offset = _mm512_sub_epi64(g.address, _mm512_set1_epi64((long long)region->start));
    __mmask8 good = with_flags(g, g.valid, VRING_DESC_F_WRITE);
    good = _mm512_mask_cmpge_epu64_mask(good, _mm512_and_si512(g.rest, low), needed);
    good = _mm512_mask_cmple_epu64_mask(good, frame, _mm512_set1_epi64(limit));
    good = _mm512_mask_test_epi64_mask(good, source, source);
    good = inside(good, offset, needed, region);
    const uint32_t taken = leading(good);
    const __mmask8 mask = (__mmask8)((1u << taken) - 1);
    const __m512i place = _mm512_add_epi64(offset, _mm512_set1_epi64((long long)region->host));
    _mm512_mask_storeu_epi64(buffers + done, mask, place);
    _mm512_mask_storeu_epi64((uint64_t *)ring->used + to, mask,
                             _mm512_or_si512(g.heads, _mm512_slli_epi64(needed, 32)));
    done += taken;
    if (taken < step) break;
  }
  return done;
}

// ---- Packed rings ----
//
// Address and flags of a descriptor lie in one aligned half of a cache line and are loaded at once, so that flags
// that say "available" come with the address that belongs to them. Processors with these instructions load a
// cache line whole; none promises it. Were one torn, the address would be judged all the same, and only the guest
// would have the wrong bytes.

/// Eight descriptors, their words apart.
struct words {
  __m512i address;
  __m512i rest;
};

AVX512 static inline struct words load_packed(const void *descriptors, uint32_t count) {
  const __m512i addresses = _mm512_set_epi64(14, 12, 10, 8, 6, 4, 2, 0);
  const __m512i rests = _mm512_set_epi64(15, 13, 11, 9, 7, 5, 3, 1);
  const uint32_t mask = (1u << (2 * count)) - 1;
  const __m512i low = _mm512_maskz_loadu_epi64((__mmask8)mask, descriptors);
  const __m512i high = _mm512_maskz_loadu_epi64((__mmask8)(mask >> 8), (const char *)descriptors + 64);
  struct words w = {_mm512_permutex2var_epi64(low, addresses, high),
                    _mm512_permutex2var_epi64(low, rests, high)};
  PIN(w.address);
  PIN(w.rest);
  return w;
}

/// Writes the second words of those descriptors of eight that are in `mask`.
AVX512 static inline void store_packed(void *descriptors, __m512i rest, __mmask8 mask) {
  // Every bit twice; then those of second words.
  const uint32_t both = _pdep_u32(mask, 0xAAAA);
  _mm512_mask_storeu_epi64(descriptors, (__mmask8)both, _mm512_maskz_expand_epi64(0xAA, rest));
  _mm512_mask_storeu_epi64((char *)descriptors + 64, (__mmask8)(both >> 8),
                           _mm512_maskz_expand_epi64(0xAA, _mm512_alignr_epi64(rest, rest, 4)));
}

/// Those of `mask` that are available, alone, and have `flags` besides.
AVX512 static inline __mmask8 plain_packed(const struct cvx_packed *ring, struct words w, __mmask8 mask,
                                           uint64_t flags) {
  const uint64_t kind = 1ull << VRING_PACKED_DESC_F_AVAIL | 1ull << VRING_PACKED_DESC_F_USED |
                        VRING_DESC_F_NEXT | VRING_DESC_F_WRITE | VRING_DESC_F_INDIRECT;
  const __m512i found = _mm512_and_si512(w.rest, _mm512_set1_epi64((long long)(kind << 48)));
  const __m512i wanted = _mm512_set1_epi64((long long)(ring->available | flags << 48));
  return _mm512_mask_cmpeq_epi64_mask(mask, found, wanted);
}

/// Marks the first `taken` of eight descriptors, which are `done` behind the first of all, as used.
AVX512 static inline void use_packed(struct cvx_packed *ring, uint32_t done, uint32_t taken,
                                     __m512i rest) {
  if (taken == 0) return;
  uint64_t all[8];
  _mm512_storeu_si512(all, rest);
  if (done == 0) ring->first = all[0];
  ring->last = all[taken - 1];
  if (ring->batch) return;
  __mmask8 mask = (__mmask8)((1u << taken) - 1);
  if (done == 0 && ring->hold) mask &= (__mmask8)~1u;
  store_packed((char *)ring->descriptors + 16 * done, rest, mask);
}

/// Asks for the lines of descriptors that will be read and then written: once, not first to read and then to write.
static inline void prefetch_packed(const struct cvx_packed *ring) {
  char *descriptors = ring->descriptors;
  for (uint32_t at = 0; at < 16 * ring->count; at += 64)
    __asm__ volatile("prefetchw %0" : : "m"(descriptors[at]));
}

AVX512 uint32_t cvx_take_packed(struct cvx_packed *ring, const struct cvx_region *region,
                                uint32_t headerSize, uint32_t least, uint32_t most,
                                uintptr_t *addresses, uint32_t *lengths) {
  const __m512i low = _mm512_set1_epi64(0xFFFFFFFF);
  const __m512i ids = _mm512_set1_epi64(0xFFFFll << 32);
  const __m512i header = _mm512_set1_epi64(headerSize);
  prefetch_packed(ring);
  uint32_t done = 0;
  while (done < ring->count) {
    const uint32_t step = least_of(8, ring->count - done);
    const struct words w = load_packed((const char *)ring->descriptors + 16 * done, step);
    const __m512i length = _mm512_and_si512(w.rest, low);
    const __m512i offset = _mm512_sub_epi64(w.address, _mm512_set1_epi64((long long)region->start));
    __mmask8 good = plain_packed(ring, w, (__mmask8)((1u << step) - 1), 0);
    good = _mm512_mask_cmpge_epu64_mask(good, length, _mm512_set1_epi64(least));
    good = _mm512_mask_cmple_epu64_mask(good, length, _mm512_set1_epi64(most));
    good = inside(good, offset, length, region);
    const uint32_t taken = leading(good);
    const __mmask8 mask = (__mmask8)((1u << taken) - 1);
    const __m512i place = _mm512_add_epi64(
        _mm512_add_epi64(offset, header), _mm512_set1_epi64((long long)region->host));
    _mm512_mask_storeu_epi64(addresses + done, mask, place);
    _mm512_mask_cvtepi64_storeu_epi32(lengths + done, mask, _mm512_sub_epi64(length, header));
    use_packed(ring, done, taken,
               _mm512_or_si512(_mm512_and_si512(w.rest, ids), _mm512_set1_epi64((long long)ring->used)));
    done += taken;
    if (taken < step) break;
  }
  return done;
}

AVX512 uint32_t cvx_place_packed(struct cvx_packed *ring, const struct cvx_region *region,
                                 uint32_t headerSize, uint32_t limit, const uintptr_t *addresses,
                                 const uint32_t *lengths, uintptr_t *buffers) {
  const __m512i low = _mm512_set1_epi64(0xFFFFFFFF);
  const __m512i ids = _mm512_set1_epi64(0xFFFFll << 32);
  const __m512i marks = _mm512_set1_epi64((long long)(ring->used | (uint64_t)VRING_DESC_F_WRITE << 48));
  prefetch_packed(ring);
  uint32_t done = 0;
  while (done < ring->count) {
    const uint32_t step = least_of(8, ring->count - done);
    const __mmask8 wanted = (__mmask8)((1u << step) - 1);
    const struct words w = load_packed((const char *)ring->descriptors + 16 * done, step);
    const __m512i frame = _mm512_cvtepu32_epi64(_mm256_maskz_loadu_epi32(wanted, lengths + done));
    const __m512i source = _mm512_maskz_loadu_epi64(wanted, addresses + done);
    const __m512i needed = _mm512_add_epi64(frame, _mm512_set1_epi64(headerSize));
    const __m512i offset = _mm512_sub_epi64(w.address, _mm512_set1_epi64((long long)region->start));
    __mmask8 good = plain_packed(ring, w, wanted, VRING_DESC_F_WRITE);
    good = _mm512_mask_cmpge_epu64_mask(good, _mm512_and_si512(w.rest, low), needed);
    good = _mm512_mask_cmple_epu64_mask(good, frame, _mm512_set1_epi64(limit));
    good = _mm512_mask_test_epi64_mask(good, source, source);
    good = inside(good, offset, needed, region);
    const uint32_t taken = leading(good);
    const __m512i place = _mm512_add_epi64(offset, _mm512_set1_epi64((long long)region->host));
    _mm512_mask_storeu_epi64(buffers + done, (__mmask8)((1u << taken) - 1), place);
    use_packed(ring, done, taken,
               _mm512_or_si512(_mm512_or_si512(_mm512_and_si512(w.rest, ids), needed), marks));
    done += taken;
    if (taken < step) break;
  }
  return done;
}

// ---- Frames ----

/// The virtio-net header of a frame in one buffer. Guests that leave the header's cache line alone, as DPDK's
/// drivers do, find there what was written last time: then the line need not change hands.
static inline void write_header(char *base, uint32_t size) {
  const uint64_t low = *(const volatile uint64_t *)base;
  const uint32_t high = *(const volatile uint32_t *)(base + 8);
  if (size == 12 && (low | (high ^ 0x10000)) == 0) return;
  *(uint64_t *)base = 0;
  *(uint16_t *)(base + 8) = 0;
  if (size == 12) *(uint16_t *)(base + 10) = 1;
}

/// Asks for the first line of a frame's place in a buffer. Its owner has read what was there before.
static inline void prefetch_frame(uintptr_t buffer, uint32_t headerSize) {
  __asm__ volatile("prefetchw %0" : : "m"(*(char *)(buffer + headerSize)));
}

AVX512 void cvx_copy(const uint16_t *order, uint32_t count, const uintptr_t *addresses,
                     const uint32_t *lengths, const void *headers, const uintptr_t *buffers,
                     uint32_t headerSize) {
  for (uint32_t i = 0; i < least_of(count, 8); i++) prefetch_frame(buffers[i], headerSize);
  for (uint32_t i = 0; i < count; i++) {
    const uint32_t frame = order[i];
    const uint32_t length = lengths[frame];
    const char *source = (const char *)addresses[frame];
    char *data = (char *)buffers[i] + headerSize;
    if (i + 8 < count) prefetch_frame(buffers[i + 8], headerSize);
    // While this frame is copied, the other lines of the next one's buffer are asked for: long copies wait for them most.
    // Asking for the next source as well measured worse than leaving that to the processor.
    const char *ahead = i + 1 < count ? (char *)buffers[i + 1] + headerSize : data;
    const uint32_t aheadLength = i + 1 < count ? lengths[order[i + 1]] : 0;
    write_header((char *)buffers[i], headerSize);
    const __mmask64 first = _bzhi_u64(~0ull, length < 64 ? length : 64);
    const __m128i header = _mm_loadu_si128((const __m128i *)headers + frame);
    // The judged bytes are not loaded again.
    const __m512i rest = _mm512_maskz_loadu_epi8(first & ~(__mmask64)0xFFFF, source);
    _mm512_mask_storeu_epi8(data, first, _mm512_inserti64x2(rest, header, 0));
    uint32_t at = 64;
    for (; at + 64 <= length; at += 64) {
      if (at < aheadLength) __asm__ volatile("prefetchw %0" : : "m"(ahead[at]));
      _mm512_storeu_si512(data + at, _mm512_loadu_si512(source + at));
    }
    if (at < length) {
      const __mmask64 last = _bzhi_u64(~0ull, length - at);
      _mm512_mask_storeu_epi8(data + at, last, _mm512_maskz_loadu_epi8(last, source + at));
    }
  }
}

#else

int cvx_available(void) { return 0; }

uint32_t cvx_take_split(const struct cvx_split *ring, uint32_t count, const struct cvx_region *region,
                        uint32_t headerSize, uint32_t least, uint32_t most, uintptr_t *addresses,
                        uint32_t *lengths) {
  (void)ring, (void)count, (void)region, (void)headerSize, (void)least, (void)most, (void)addresses,
      (void)lengths;
  return 0;
}

uint32_t cvx_place_split(const struct cvx_split *ring, uint32_t count, const struct cvx_region *region,
                         uint32_t headerSize, uint32_t limit, const uintptr_t *addresses,
                         const uint32_t *lengths, uintptr_t *buffers) {
  (void)ring, (void)count, (void)region, (void)headerSize, (void)limit, (void)addresses,
      (void)lengths, (void)buffers;
  return 0;
}

uint32_t cvx_take_packed(struct cvx_packed *ring, const struct cvx_region *region, uint32_t headerSize,
                         uint32_t least, uint32_t most, uintptr_t *addresses, uint32_t *lengths) {
  (void)ring, (void)region, (void)headerSize, (void)least, (void)most, (void)addresses, (void)lengths;
  return 0;
}

uint32_t cvx_place_packed(struct cvx_packed *ring, const struct cvx_region *region, uint32_t headerSize,
                          uint32_t limit, const uintptr_t *addresses, const uint32_t *lengths,
                          uintptr_t *buffers) {
  (void)ring, (void)region, (void)headerSize, (void)limit, (void)addresses, (void)lengths, (void)buffers;
  return 0;
}

void cvx_copy(const uint16_t *order, uint32_t count, const uintptr_t *addresses, const uint32_t *lengths,
              const void *headers, const uintptr_t *buffers, uint32_t headerSize) {
  (void)order, (void)count, (void)addresses, (void)lengths, (void)headers, (void)buffers,
      (void)headerSize;
}

#endif
