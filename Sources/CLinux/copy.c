#include "clinux.h"

/// Sixteen bytes anywhere; they may be of any type.
typedef uint8_t word __attribute__((vector_size(16), aligned(1), may_alias));

void clx_copy_in_words(void *to, const void *from, size_t length) {
  char *target = to;
  const char *source = from;
  size_t at = 0;
  for (; at + 64 <= length; at += 64) {
    const word a = *(const word *)(source + at), b = *(const word *)(source + at + 16);
    const word c = *(const word *)(source + at + 32), d = *(const word *)(source + at + 48);
    *(word *)(target + at) = a, *(word *)(target + at + 16) = b;
    *(word *)(target + at + 32) = c, *(word *)(target + at + 48) = d;
    // Else the compiler may see a memcpy(3) in this.
    __asm__ volatile("" ::: "memory");
  }
  memcpy(target + at, source + at, length - at);
}
