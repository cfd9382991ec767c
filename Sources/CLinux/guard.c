// Memory that strangers can take away: who shares a file can shorten it, or have no page left for it, and the next
// access to a page that is gone is a SIGBUS (mmap(2)). Mappings of such files are kept in a table; the handler of the
// signal finds the one that lost a page and puts memory of our own in its place, so that whoever has touched it goes
// on, with zeros.
#define _GNU_SOURCE
#include "clinux.h"

#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>

enum { capacity = 1 << 17 };

/// Fields are written while the sequence is even, by whoever holds `changes`, and are those of a mapping while it is
/// odd. A handler that sees it change has seen another mapping than its own, which nobody can unmap meanwhile.
struct entry {
  unsigned sequence;
  int gone;
  uintptr_t address;
  size_t length;
  size_t page;
};

// Pages of zeros until they are used.
static struct entry table[capacity];
static int freed[capacity];
static int freedCount;
/// Entries that have ever been used.
static int used;
static unsigned long vanished;
static int event = -1;
static struct sigaction before;
static pthread_mutex_t changes = PTHREAD_MUTEX_INITIALIZER;

/// In a signal handler, and in several threads at once: calls nothing but the kernel.
static int replace(uintptr_t fault) {
  int count = __atomic_load_n(&used, __ATOMIC_ACQUIRE);
  for (int i = 0; i < count; i++) {
    struct entry *entry = &table[i];
    unsigned sequence = __atomic_load_n(&entry->sequence, __ATOMIC_ACQUIRE);
    if ((sequence & 1) == 0) continue;
    uintptr_t address = __atomic_load_n(&entry->address, __ATOMIC_RELAXED);
    size_t length = __atomic_load_n(&entry->length, __ATOMIC_RELAXED);
    size_t page = __atomic_load_n(&entry->page, __ATOMIC_RELAXED);
    __atomic_thread_fence(__ATOMIC_ACQUIRE);
    if (__atomic_load_n(&entry->sequence, __ATOMIC_RELAXED) != sequence) continue;
    if (fault < address || fault - address >= length) continue;

    // Before the zeros can be seen.
    __atomic_store_n(&entry->gone, 1, __ATOMIC_SEQ_CST);
    __atomic_fetch_add(&vanished, 1, __ATOMIC_SEQ_CST);
    // All of it, so that one fault is all that it costs. Two threads may both do it: what the first has written since is
    // lost, and worth nothing.
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE;
    if (mmap((void *)address, length, PROT_READ | PROT_WRITE, flags, -1, 0) == MAP_FAILED) {
      // There is no promising so much; as much as must be.
      address = fault - (fault - address) % page;
      length = page;
      if (mmap((void *)address, length, PROT_READ | PROT_WRITE, flags, -1, 0) == MAP_FAILED) return 0;
    }
    // What is still touched is little, and is not to become much.
    madvise((void *)address, length, MADV_NOHUGEPAGE);
    if (event >= 0) clx_eventfd_signal(event);
    return 1;
  }
  return 0;
}

/// Every SIGBUS of this process comes here, so it says of each kind what it means (sigaction(2)).
static void on_bus_error(int signal, siginfo_t *info, void *context) {
  (void)context;
  int saved = errno;
  switch (info->si_code) {
    case BUS_MCEERR_AO:
      // The memory controller has found a page that is bad, which nobody has touched, here or at a guest: action is
      // optional. Its front-end is told as well, and may have the guest do without. Should somebody touch it, it is
      // the next case.
      break;
    case BUS_ADRALN:
    case BUS_ADRERR:
    case BUS_OBJERR:
    case BUS_MCEERR_AR:
      // An access of this thread, which comes again: to zeros, or where there is none of ours as if there were no
      // handler.
      if (!replace((uintptr_t)info->si_addr)) sigaction(SIGBUS, &before, NULL);
      break;
    default:
      // Nobody's access: sent by who may (kill(2); nobody else can pretend to a code above), or by a kernel that does
      // not say where. As if there were no handler, too: it must be sent again.
      if (before.sa_handler == SIG_IGN && info->si_code != SI_KERNEL) break;
      sigaction(SIGBUS, &before, NULL);
      raise(signal);
  }
  errno = saved;
}

int clx_guard_install(int eventfd) {
  event = eventfd;
  struct sigaction action = {.sa_sigaction = on_bus_error, .sa_flags = SA_SIGINFO};
  sigemptyset(&action.sa_mask);
  return sigaction(SIGBUS, &action, &before) < 0 ? -errno : 0;
}

int clx_guard_add(void *address, size_t length, size_t page) {
  pthread_mutex_lock(&changes);
  int index = freedCount > 0 ? freed[--freedCount] : used < capacity ? used : -1;
  if (index >= 0) {
    struct entry *entry = &table[index];
    __atomic_thread_fence(__ATOMIC_RELEASE);
    __atomic_store_n(&entry->gone, 0, __ATOMIC_RELAXED);
    __atomic_store_n(&entry->address, (uintptr_t)address, __ATOMIC_RELAXED);
    __atomic_store_n(&entry->length, length, __ATOMIC_RELAXED);
    __atomic_store_n(&entry->page, page, __ATOMIC_RELAXED);
    __atomic_store_n(&entry->sequence, entry->sequence + 1, __ATOMIC_RELEASE);
    if (index == used) __atomic_store_n(&used, used + 1, __ATOMIC_RELEASE);
  }
  pthread_mutex_unlock(&changes);
  return index >= 0 ? index : -ENOSPC;
}

void clx_guard_remove(int index) {
  pthread_mutex_lock(&changes);
  __atomic_store_n(&table[index].sequence, table[index].sequence + 1, __ATOMIC_RELEASE);
  freed[freedCount++] = index;
  pthread_mutex_unlock(&changes);
}

int clx_guard_is_gone(int index) { return __atomic_load_n(&table[index].gone, __ATOMIC_SEQ_CST); }

unsigned long clx_guard_count(void) { return __atomic_load_n(&vanished, __ATOMIC_SEQ_CST); }
