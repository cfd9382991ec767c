// The kernel's interfaces that Swift's Glibc module does not show: GNU calls, control-message macros,
// the TUN driver, and the structures of virtio. Thin wrappers only: no policy lives in C.
//
// Every wrapper returns what the call returns, and on failure -errno, never -1: the caller need not read
// the thread's errno, which Swift's runtime may change in between.
#ifndef CLINUX_H
#define CLINUX_H

#include <errno.h>
#include <linux/virtio_config.h>
#include <linux/virtio_net.h>
#include <linux/virtio_ring.h>
#include <sched.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define CLINUX_INLINE                                                         \
  static inline __attribute__((always_inline, swift_attr("@_noLocks"),        \
                               swift_attr("@_noAllocation")))

// ---- One instruction each ---------------------------------------------------------------------------

/// Tells the processor that this is a spin-wait.
CLINUX_INLINE void clx_pause(void) {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

/// Time-stamp counter: monotonic ticks of an unspecified, constant rate.
CLINUX_INLINE uint64_t clx_ticks(void) {
#if defined(__x86_64__)
  return __builtin_ia32_rdtsc();
#else
  uint64_t ticks;
  __asm__ volatile("mrs %0, cntvct_el0" : "=r"(ticks));
  return ticks;
#endif
}

CLINUX_INLINE void clx_prefetch_read(const void *address) {
  __builtin_prefetch(address, 0, 3);
}

CLINUX_INLINE void clx_prefetch_write(void *address) {
#if defined(__x86_64__)
  // The builtin asks for a shared line unless the whole build is for processors with this instruction. Those
  // without it do nothing.
  __asm__ volatile("prefetchw %0" : : "m"(*(char *)address));
#else
  __builtin_prefetch(address, 1, 3);
#endif
}

// ---- Bytes that another party may be changing ---------------------------------------------------------
//
// Volatile: the compiler may neither repeat nor invent the load, so what is judged is what is used. The
// address need not be aligned.

CLINUX_INLINE uint16_t clx_fetch16(const void *address) {
  struct __attribute__((packed)) word { uint16_t value; };
  return ((const volatile struct word *)address)->value;
}

CLINUX_INLINE uint64_t clx_fetch64(const void *address) {
  struct __attribute__((packed)) word { uint64_t value; };
  return ((const volatile struct word *)address)->value;
}

CLINUX_INLINE uint8_t clx_fetch8(const void *address) { return *(const volatile uint8_t *)address; }

// ---- What a worker calls ------------------------------------------------------------------------------
//
// Here, where it can be said of them that they take no lock of this process and allocate nothing.

/// memcpy(3), in loads and stores of 16 bytes, never by the processor's string instructions (`copy.c`).
void clx_copy_in_words(void *to, const void *from, size_t length)
    __attribute__((swift_attr("@_noLocks"), swift_attr("@_noAllocation")));

/// memcpy(3), but where that may be slow by four times: glibc copies long blocks by `rep movsb`, which AMD's Zen 3 and 4
/// do a byte at a time when the target lies less than a cache line further into its page than the source (glibc's bug 30994).
/// A virtio-net header of 12 bytes in front of one of the two is enough for that.
CLINUX_INLINE void clx_copy(void *to, const void *from, size_t length) {
  const size_t further = ((uintptr_t)to - (uintptr_t)from) & 4095;
  if (length >= 2048 && further < 64 && further != 0) clx_copy_in_words(to, from, length);
  else memcpy(to, from, length);
}
/// memmove(3).
CLINUX_INLINE void clx_move(void *to, const void *from, size_t length) { memmove(to, from, length); }

CLINUX_INLINE ssize_t clx_read(int fd, void *bytes, size_t length) {
  ssize_t count = read(fd, bytes, length);
  return count < 0 ? -errno : count;
}

CLINUX_INLINE ssize_t clx_writev(int fd, const struct iovec *vectors, int count) {
  ssize_t written = writev(fd, vectors, count);
  return written < 0 ? -errno : written;
}

/// Adds one to an eventfd of this process's own, which nobody else can fill or make wait. A full counter is left as
/// it is, which its reader sees all the same.
CLINUX_INLINE void clx_eventfd_signal(int fd) {
  uint64_t one = 1;
  if (write(fd, &one, sizeof one) < 0) return;
}

/// Members that one call of `clx_epoll_ready` tells of at the most.
#define CLX_EPOLL_BATCH 32

/// Waits until any member is ready or `milliseconds` (-1: for ever, 0: not at all) are over; `data`, room for `capacity`, receives
/// what the ready ones were added with. Returns how many those are.
int clx_epoll_ready(int epoll, uint64_t *data, int capacity, int milliseconds)
    __attribute__((swift_attr("@_noLocks"), swift_attr("@_noAllocation")));

/// Nanoseconds that the calling thread has run.
CLINUX_INLINE int64_t clx_thread_time(void) {
  struct timespec time;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return time.tv_sec * 1000000000 + time.tv_nsec;
}

/// How often the calling thread has given its CPU up because it had to wait for something.
int64_t clx_thread_waits(void)
    __attribute__((swift_attr("@_noLocks"), swift_attr("@_noAllocation")));

/// Lets another thread have the CPU, if one wants it.
CLINUX_INLINE void clx_yield(void) { sched_yield(); }

/// Takes what has been added to an eventfd of this process's own, which does not block.
CLINUX_INLINE void clx_eventfd_drain(int fd) {
  uint64_t count;
  if (read(fd, &count, sizeof count) < 0) return;
}

/// What `clx_notify` works with; of one thread at a time.
struct clx_notifier;
/// Eventfds that go to the kernel in one call.
#define CLX_NOTIFIER_BATCH 16

/// Adds one to each of `count` eventfds, whoever else holds them: never waits. A full counter is left as it is.
void clx_notify(struct clx_notifier *notifier, const int *fds, int count)
    __attribute__((swift_attr("@_noLocks"), swift_attr("@_noAllocation")));

// ---- File descriptors -------------------------------------------------------------------------------

/// Makes a notifier. -errno when the kernel has no asynchronous I/O for this process, or none is wanted: then what
/// was made, if it is not NULL, uses write(2), which a full counter may hold up.
int clx_notifier_open(int asynchronous, struct clx_notifier **notifier);
void clx_notifier_close(struct clx_notifier *notifier);
/// An eventfd, non-blocking and close-on-exec.
int clx_eventfd(unsigned initial);
/// An anonymous file that can be mapped and passed on; `hugePage` is 0 or the log2 of the page size.
int clx_memfd(const char *name, unsigned hugePageShift);
/// Opens /dev/null in place of whichever of the descriptors 0 to 2 are closed.
void clx_fill_standard(void);
int clx_set_nonblocking(int fd);
int clx_epoll_create(void);
/// Adds `fd` (edge-triggered when asked) with `data` to the epoll set.
int clx_epoll_add(int epoll, int fd, int edge, uint64_t data);
int clx_epoll_remove(int epoll, int fd);
/// Waits for `POLLIN`/`POLLOUT` on up to 5 descriptors; `ready` receives their revents.
int clx_poll(const int *fds, const short *events, short *ready, int count, int milliseconds);
/// A descriptor that becomes readable when one of the signals arrives; blocks them in this thread.
int clx_signalfd(const int *signals, int count);
/// The number of the next signal from a signalfd.
int clx_signalfd_read(int fd);

// ---- Unix sockets -----------------------------------------------------------------------------------

/// More than any message carries: what comes beyond a message's due is taken only to be closed.
#define CLX_MAX_FDS 32
/// As many as the kernel lets go with one message (SCM_MAX_FD): more than a front-end of good will sends.
#define CLX_MAX_SENT_FDS 253
/// A bound stream socket, non-blocking; its file has permission bits `mode` (less the umask) from the start.
int clx_unix_bind(const char *path, unsigned mode);
int clx_listen(int fd, int backlog);
/// 0: nothing there, 1: a socket, 2: something else.
int clx_path_kind(const char *path);
/// -1 leaves an id as it is.
int clx_chown(const char *path, int64_t uid, int64_t gid);
/// A symbolic link is not followed.
int clx_chmod(const char *path, unsigned mode);
/// A connected stream socket, non-blocking, with an abstract name that the kernel chose.
int clx_unix_connect(const char *path);
int clx_unix_pair(int fds[2]);
/// Two ends that give and take a datagram a call.
int clx_unix_datagram_pair(int fds[2]);
/// 1: a connected Unix socket whose peer has no name, 0: none.
int clx_unix_is_of_pair(int socket);
int clx_accept(int listener);
/// Reads up to `length` bytes and at most CLX_MAX_FDS descriptors (close-on-exec). `*truncated` becomes 1
/// when the peer sent more descriptors than were taken; those that were taken are reported all the same.
ssize_t clx_recv(int socket, void *bytes, size_t length, int *fds, int *fdCount, int *truncated);
/// At most CLX_MAX_SENT_FDS descriptors.
ssize_t clx_send(int socket, const void *bytes, size_t length, const int *fds, int fdCount);
/// The peer's process, user and group.
int clx_peer(int socket, int *pid, unsigned *uid, unsigned *gid);

// ---- Memory -----------------------------------------------------------------------------------------

/// Maps `length` bytes shared from `fd`; returns 0 and the address, or -errno.
int clx_map_shared(int fd, uint64_t offset, size_t length, void **address);
/// Maps private anonymous memory; `hugePageShift` 0 means ordinary pages.
int clx_map_anonymous(size_t length, unsigned hugePageShift, void **address);
int clx_unmap(void *address, size_t length);
int clx_advise_hugepages(void *address, size_t length);
/// Brings every page of a range in now; -errno when there is not enough memory for that.
int clx_populate(void *address, size_t length);
int clx_advise_nodump(void *address, size_t length);
/// The page size of the file system behind `fd` (hugetlbfs: the huge page's) and the file's length.
int clx_file_size(int fd, uint64_t *length, uint64_t *blockSize, int *isRegular);
/// Bytes that are kept for the file, without its holes; below 0: -errno.
int64_t clx_file_allocated(int fd);
/// The magic number of the file system that `fd` is in.
int64_t clx_file_system(int fd);
/// Has accesses to mappings in the table end in zeros, not in SIGBUS, when their files have lost the page; `eventfd` is
/// signalled then. Once a process.
int clx_guard_install(int eventfd);
/// Enters a mapping, before its first access; returns its place, or -ENOSPC. `page`: bytes of a page of its file.
int clx_guard_add(void *address, size_t length, size_t page);
/// Nobody touches the mapping any more; it may be unmapped next.
void clx_guard_remove(int index);
/// 1 once a page was missing: what the mapping holds is the file's no more.
int clx_guard_is_gone(int index);
/// How many mappings that has happened to so far.
unsigned long clx_guard_count(void);
/// 1 when `fd` is an eventfd, 0 when not, -errno when the kernel would not say.
int clx_is_eventfd(int fd);

// ---- Threads ----------------------------------------------------------------------------------------

/// Names the calling thread; the kernel keeps 15 bytes.
void clx_thread_name(const char *name);
/// Asymmetric barrier: 0 when the kernel offers it and this process is registered.
int clx_membarrier_register(void);
int clx_membarrier(void);
/// The CPUs this thread may run on, at most `capacity`; returns their number.
int clx_affinity_get(int *cpus, int capacity);
// thread: its number in the kernel; 0: the calling one.
int clx_affinity_set(int thread, const int *cpus, int count);
/// The number of the calling thread.
int clx_thread_id(void);
/// The CPU that a thread of this process runs on, or ran on last.
int clx_thread_cpu(int thread);
/// The number of CPUs configured, online or not.
int clx_cpu_count(void);

// ---- TAP --------------------------------------------------------------------------------------------

/// Opens one queue of the TAP device `name` (IFF_TAP | IFF_NO_PI | IFF_VNET_HDR, multi-queue when asked),
/// making the device if it is absent. `actual` (16 bytes) receives the device's name.
int clx_tap_open(const char *name, int multiQueue, char *actual);
/// TUNSETVNETHDRSZ, TUNSETOFFLOAD: the checksum and segmentation of TCP, and of UDP where the kernel knows that;
/// returns 1 where it does.
int clx_tap_configure(int fd, int headerSize);
/// Brings the interface up or down.
int clx_link_set_up(const char *name, int up);
int clx_link_set_mtu(const char *name, int mtu);
/// Returns 1 when an interface of that name exists.
int clx_link_exists(const char *name);
/// The present name (16 bytes) and hardware address (6 bytes) of the device behind a TAP's descriptor, whatever it was called
/// before and whatever network namespace it is in; -EBADFD: it was deleted.
int clx_tap_identity(int fd, char *name, uint8_t *address);
/// Whether that device is up, wherever it is.
int clx_tap_is_up(int fd);

/// What rtnetlink(7) tells of an interface.
struct clx_link {
  /// IFF_UP, IFF_LOWER_UP …
  unsigned flags;
  int mtu;
  uint8_t address[6];
  /// Queues of a TAP with several that processes have attached, enabled or not; -1: it is none, or the kernel does not say.
  int queues;
};
/// Asks for the interface of that name in this network namespace; returns 1 when there is one, 0 when there is none.
int clx_link_query(const char *name, struct clx_link *link);
/// A socket that gets ready whenever an interface of this network namespace changes, comes or goes (RTMGRP_LINK).
int clx_link_watch(void);
/// Takes everything from it that is there, or was lost because nobody took it.
void clx_link_drain(int fd);

// ---- vring event ------------------------------------------------------------------------------------

/// virtio v1.4, 2.7.10: whether moving an index from `old` to `new_` passes `event`.
CLINUX_INLINE int clx_need_event(uint16_t event, uint16_t new_, uint16_t old) {
  return (uint16_t)(new_ - event - 1) < (uint16_t)(new_ - old);
}

#endif
