// Signalling eventfds that strangers hold too: see docs/decisions/0012.
#define _GNU_SOURCE
#include "clinux.h"

#include <fcntl.h>
#include <linux/aio_abi.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <time.h>

/// Where a context's completions are, as the kernel has mapped them for us (fs/aio.c: struct aio_ring). libaio and
/// fio have read it since 2.6: its magic says that it is this one.
struct ring {
  unsigned id, size, head, tail, magic, compatible, incompatible, headerLength;
};

enum { ringMagic = 0xa10a10a1 };

struct clx_notifier {
  /// 0: the kernel gave none, and write(2) has to do.
  aio_context_t context;
  /// What nothing is read from.
  int null;
  struct iocb blocks[CLX_NOTIFIER_BATCH];
  struct iocb *list[CLX_NOTIFIER_BATCH];
};

int clx_notifier_open(int asynchronous, struct clx_notifier **notifier) {
  struct clx_notifier *made = calloc(1, sizeof *made);
  *notifier = made;
  if (made == NULL) return -ENOMEM;
  made->null = open("/dev/null", O_RDONLY | O_CLOEXEC);
  if (made->null < 0) return -errno;
  if (!asynchronous) return -ENOSYS;
  if (syscall(SYS_io_setup, CLX_NOTIFIER_BATCH, &made->context) < 0) {
    made->context = 0;
    return -errno;
  }
  for (int i = 0; i < CLX_NOTIFIER_BATCH; i++) {
    made->blocks[i].aio_lio_opcode = IOCB_CMD_PREAD;
    made->blocks[i].aio_fildes = (unsigned)made->null;
    made->blocks[i].aio_flags = IOCB_FLAG_RESFD;
    made->list[i] = &made->blocks[i];
  }
  return 0;
}

void clx_notifier_close(struct clx_notifier *notifier) {
  if (notifier == NULL) return;
  if (notifier->context != 0) syscall(SYS_io_destroy, notifier->context);
  if (notifier->null >= 0) close(notifier->null);
  free(notifier);
}

/// Gives the places of completed requests back: every one is, as a read of nothing ends before io_submit does.
static void reap(const struct clx_notifier *notifier) {
  struct ring *ring = (struct ring *)notifier->context;
  if (ring->magic == ringMagic && ring->incompatible == 0) {
    __atomic_store_n(&ring->head, __atomic_load_n(&ring->tail, __ATOMIC_ACQUIRE), __ATOMIC_RELEASE);
    return;
  }
  struct io_event events[CLX_NOTIFIER_BATCH];
  struct timespec none = {0};
  while (syscall(SYS_io_getevents, notifier->context, 0, CLX_NOTIFIER_BATCH, events, &none) == CLX_NOTIFIER_BATCH) {
  }
}

int clx_epoll_ready(int epoll, uint64_t *data, int capacity, int milliseconds) {
  struct epoll_event events[CLX_EPOLL_BATCH];
  int room = capacity < CLX_EPOLL_BATCH ? capacity : CLX_EPOLL_BATCH;
  int count = epoll_wait(epoll, events, room, milliseconds);
  if (count < 0) return -errno;
  for (int i = 0; i < count; i++) data[i] = events[i].data.u64;
  return count;
}

void clx_notify(struct clx_notifier *notifier, const int *fds, int count) {
  if (notifier->context == 0) {
    for (int i = 0; i < count; i++) clx_eventfd_signal(fds[i]);
    return;
  }
  while (count > 0) {
    int batch = count < CLX_NOTIFIER_BATCH ? count : CLX_NOTIFIER_BATCH;
    for (int i = 0; i < batch; i++) notifier->blocks[i].aio_resfd = (unsigned)fds[i];
    // The kernel stops at the first request that it refuses, and tells why only when there is none before.
    int done = 0, failures = 0;
    while (done < batch) {
      long accepted = syscall(SYS_io_submit, notifier->context, (long)(batch - done), notifier->list + done);
      if (accepted > 0) {
        done += (int)accepted;
        failures = 0;
        continue;
      }
      reap(notifier);
      // No place, or no memory for a moment: once more. A descriptor that is no eventfd: the others go on.
      if (accepted < 0 && errno == EAGAIN && ++failures < 100) continue;
      done++;
      failures = 0;
    }
    reap(notifier);
    fds += batch;
    count -= batch;
  }
}
