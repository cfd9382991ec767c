#define _GNU_SOURCE
#include "clinux.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <linux/membarrier.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

static inline int result(int value) { return value < 0 ? -errno : value; }

// ---- File descriptors -------------------------------------------------------------------------------

int clx_eventfd(unsigned initial) { return result(eventfd(initial, EFD_NONBLOCK | EFD_CLOEXEC)); }

int clx_memfd(const char *name, unsigned hugePageShift) {
  unsigned flags = MFD_CLOEXEC;
  if (hugePageShift != 0) flags |= MFD_HUGETLB | (hugePageShift << 26);
  return result(memfd_create(name, flags));
}

void clx_fill_standard(void) {
  for (int fd = 0; fd <= 2; fd++)
    if (fcntl(fd, F_GETFD) < 0 && errno == EBADF) (void)!open("/dev/null", O_RDWR);
}

int clx_set_nonblocking(int fd) {
  int flags = fcntl(fd, F_GETFL);
  if (flags < 0) return -errno;
  return result(fcntl(fd, F_SETFL, flags | O_NONBLOCK));
}

int clx_epoll_create(void) { return result(epoll_create1(EPOLL_CLOEXEC)); }

int clx_epoll_add(int epoll, int fd, int edge, uint64_t data) {
  struct epoll_event event = {.events = EPOLLIN | (edge ? EPOLLET : 0)};
  event.data.u64 = data;
  return result(epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event));
}

int clx_epoll_remove(int epoll, int fd) {
  struct epoll_event event = {0};
  return result(epoll_ctl(epoll, EPOLL_CTL_DEL, fd, &event));
}


int clx_poll(const int *fds, const short *events, short *ready, int count, int milliseconds) {
  struct pollfd set[4];
  if (count < 0 || count > 4) return -EINVAL;
  for (int i = 0; i < count; i++) set[i] = (struct pollfd){.fd = fds[i], .events = events[i]};
  int n = poll(set, (nfds_t)count, milliseconds);
  if (n < 0) return -errno;
  for (int i = 0; i < count; i++) ready[i] = set[i].revents;
  return n;
}

int clx_signalfd(const int *signals, int count) {
  sigset_t set;
  sigemptyset(&set);
  for (int i = 0; i < count; i++) sigaddset(&set, signals[i]);
  int error = pthread_sigmask(SIG_BLOCK, &set, NULL);
  if (error != 0) return -error;
  return result(signalfd(-1, &set, SFD_CLOEXEC));
}

int clx_signalfd_read(int fd) {
  struct signalfd_siginfo info;
  ssize_t n = read(fd, &info, sizeof info);
  if (n < 0) return -errno;
  return n == (ssize_t)sizeof info ? (int)info.ssi_signo : -EIO;
}

// ---- Unix sockets -----------------------------------------------------------------------------------

static int address_of(const char *path, struct sockaddr_un *address) {
  memset(address, 0, sizeof *address);
  address->sun_family = AF_UNIX;
  if (strlen(path) >= sizeof address->sun_path) return -ENAMETOOLONG;
  strcpy(address->sun_path, path);
  return 0;
}

int clx_unix_bind(const char *path, unsigned mode) {
  struct sockaddr_un address;
  int error = address_of(path, &address);
  if (error != 0) return error;
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return -errno;
  // The file that bind makes takes its mode from the socket's inode: it is never more open than asked.
  if (fchmod(fd, (mode_t)mode) < 0 || bind(fd, (struct sockaddr *)&address, sizeof address) < 0) {
    error = -errno;
    close(fd);
    return error;
  }
  return fd;
}

int clx_listen(int fd, int backlog) { return result(listen(fd, backlog)); }

int clx_unix_connect(const char *path) {
  struct sockaddr_un address;
  int error = address_of(path, &address);
  if (error != 0) return error;
  // Non-blocking: a listener with a full backlog answers EAGAIN instead of holding the caller.
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return -errno;
  // The family alone: the kernel chooses an abstract name.
  sa_family_t unnamed = AF_UNIX;
  if (bind(fd, (struct sockaddr *)&unnamed, sizeof unnamed) < 0 ||
      connect(fd, (struct sockaddr *)&address, sizeof address) < 0) {
    error = -errno;
    close(fd);
    return error;
  }
  return fd;
}

int clx_unix_pair(int fds[2]) {
  return result(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds));
}

int clx_unix_datagram_pair(int fds[2]) {
  return result(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds));
}

int clx_unix_is_of_pair(int socket) {
  struct sockaddr_un peer;
  socklen_t length = sizeof peer;
  if (getpeername(socket, (struct sockaddr *)&peer, &length) < 0) return 0;
  return peer.sun_family == AF_UNIX && length == offsetof(struct sockaddr_un, sun_path);
}

int clx_accept(int listener) {
  return result(accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK));
}

ssize_t clx_recv(int socket, void *bytes, size_t length, int *fds, int *fdCount, int *truncated) {
  union {
    struct cmsghdr alignment;
    char bytes[CMSG_SPACE(sizeof(int) * CLX_MAX_FDS)];
  } control;
  struct iovec vector = {.iov_base = bytes, .iov_len = length};
  struct msghdr message = {
      .msg_iov = &vector, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
  *fdCount = 0;
  *truncated = 0;
  ssize_t n = recvmsg(socket, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
  if (n < 0) return -errno;
  *truncated = (message.msg_flags & MSG_CTRUNC) != 0;
  for (struct cmsghdr *item = CMSG_FIRSTHDR(&message); item != NULL; item = CMSG_NXTHDR(&message, item)) {
    if (item->cmsg_level != SOL_SOCKET || item->cmsg_type != SCM_RIGHTS) continue;
    int count = (int)((item->cmsg_len - CMSG_LEN(0)) / sizeof(int));
    for (int i = 0; i < count; i++) {
      int fd;
      memcpy(&fd, CMSG_DATA(item) + (size_t)i * sizeof(int), sizeof fd);
      if (*fdCount < CLX_MAX_FDS)
        fds[(*fdCount)++] = fd;
      else
        close(fd);
    }
  }
  return n;
}

ssize_t clx_send(int socket, const void *bytes, size_t length, const int *fds, int fdCount) {
  union {
    struct cmsghdr alignment;
    char bytes[CMSG_SPACE(sizeof(int) * CLX_MAX_SENT_FDS)];
  } control;
  if (fdCount < 0 || fdCount > CLX_MAX_SENT_FDS) return -EINVAL;
  struct iovec vector = {.iov_base = (void *)bytes, .iov_len = length};
  struct msghdr message = {.msg_iov = &vector, .msg_iovlen = 1};
  if (fdCount > 0) {
    message.msg_control = &control;
    message.msg_controllen = CMSG_SPACE(sizeof(int) * (size_t)fdCount);
    memset(&control, 0, message.msg_controllen);
    struct cmsghdr *item = CMSG_FIRSTHDR(&message);
    item->cmsg_level = SOL_SOCKET;
    item->cmsg_type = SCM_RIGHTS;
    item->cmsg_len = CMSG_LEN(sizeof(int) * (size_t)fdCount);
    memcpy(CMSG_DATA(item), fds, sizeof(int) * (size_t)fdCount);
  }
  ssize_t n = sendmsg(socket, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
  return n < 0 ? -errno : n;
}

int clx_peer(int socket, int *pid, unsigned *uid, unsigned *gid) {
  struct ucred peer;
  socklen_t length = sizeof peer;
  if (getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &length) < 0) return -errno;
  *pid = peer.pid;
  *uid = peer.uid;
  *gid = peer.gid;
  return 0;
}

// ---- Memory -----------------------------------------------------------------------------------------

int clx_map_shared(int fd, uint64_t offset, size_t length, void **address) {
  void *mapped = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, (off_t)offset);
  if (mapped == MAP_FAILED) return -errno;
  *address = mapped;
  return 0;
}

int clx_map_anonymous(size_t length, unsigned hugePageShift, void **address) {
  int flags = MAP_PRIVATE | MAP_ANONYMOUS;
  if (hugePageShift != 0) flags |= MAP_HUGETLB | (int)(hugePageShift << 26);
  void *mapped = mmap(NULL, length, PROT_READ | PROT_WRITE, flags, -1, 0);
  if (mapped == MAP_FAILED) return -errno;
  *address = mapped;
  return 0;
}

int clx_unmap(void *address, size_t length) { return result(munmap(address, length)); }

int clx_advise_hugepages(void *address, size_t length) {
  return result(madvise(address, length, MADV_HUGEPAGE));
}

int clx_populate(void *address, size_t length) {
#ifdef MADV_POPULATE_WRITE
  return result(madvise(address, length, MADV_POPULATE_WRITE));
#else
  (void)address;
  (void)length;
  return -ENOSYS;
#endif
}

int clx_advise_nodump(void *address, size_t length) {
  return result(madvise(address, length, MADV_DONTDUMP));
}

int clx_file_size(int fd, uint64_t *length, uint64_t *blockSize, int *isRegular) {
  struct stat status;
  struct statfs system;
  if (fstat(fd, &status) < 0) return -errno;
  if (fstatfs(fd, &system) < 0) return -errno;
  *length = (uint64_t)status.st_size;
  *isRegular = S_ISREG(status.st_mode);
  // HUGETLBFS_MAGIC: the block size is the page size, and mappings must be multiples of it.
  *blockSize = system.f_type == 0x958458f6 ? (uint64_t)system.f_bsize : (uint64_t)sysconf(_SC_PAGESIZE);
  return 0;
}

int64_t clx_file_system(int fd) {
  struct statfs system;
  if (fstatfs(fd, &system) < 0) return -errno;
  return (uint32_t)system.f_type;
}

int clx_is_eventfd(int fd) {
  char path[64], target[64];
  snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
  ssize_t n = readlink(path, target, sizeof target - 1);
  if (n < 0) return -errno;
  target[n] = 0;
  return strcmp(target, "anon_inode:[eventfd]") == 0;
}

// ---- Threads ----------------------------------------------------------------------------------------

void clx_thread_name(const char *name) { prctl(PR_SET_NAME, name, 0, 0, 0); }

int clx_membarrier_register(void) {
  return result((int)syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0));
}

int clx_membarrier(void) {
  return result((int)syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0));
}

int clx_affinity_get(int *cpus, int capacity) {
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) < 0) return -errno;
  int count = 0;
  for (int cpu = 0; cpu < CPU_SETSIZE && count < capacity; cpu++)
    if (CPU_ISSET(cpu, &set)) cpus[count++] = cpu;
  return count;
}

int clx_affinity_set(const int *cpus, int count) {
  cpu_set_t set;
  CPU_ZERO(&set);
  for (int i = 0; i < count; i++) {
    if (cpus[i] < 0 || cpus[i] >= CPU_SETSIZE) return -EINVAL;
    CPU_SET(cpus[i], &set);
  }
  return result(sched_setaffinity(0, sizeof set, &set));
}

int clx_cpu_count(void) { return result((int)sysconf(_SC_NPROCESSORS_CONF)); }

// ---- TAP --------------------------------------------------------------------------------------------

int clx_tap_open(const char *name, int multiQueue, char *actual) {
  struct ifreq request;
  memset(&request, 0, sizeof request);
  if (strlen(name) >= IFNAMSIZ) return -ENAMETOOLONG;
  strcpy(request.ifr_name, name);
  request.ifr_flags = (short)(IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | (multiQueue ? IFF_MULTI_QUEUE : 0));
  int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
  if (fd < 0) return -errno;
  if (ioctl(fd, TUNSETIFF, &request) < 0) {
    int error = -errno;
    close(fd);
    return error;
  }
  memcpy(actual, request.ifr_name, IFNAMSIZ);
  return fd;
}

int clx_tap_configure(int fd, int headerSize) {
  if (ioctl(fd, TUNSETVNETHDRSZ, &headerSize) < 0) return -errno;
  unsigned long offloads = TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN;
  // TUN_F_USO4 and TUN_F_USO6, which older copies of the kernel's headers lack.
  if (ioctl(fd, TUNSETOFFLOAD, offloads | 0x20 | 0x40) == 0) return 1;
  return result(ioctl(fd, TUNSETOFFLOAD, offloads));
}

static int link_request(const char *name, struct ifreq *request) {
  memset(request, 0, sizeof *request);
  if (strlen(name) >= IFNAMSIZ) return -ENAMETOOLONG;
  strcpy(request->ifr_name, name);
  // Any socket takes an interface's requests; this kind can reach no network.
  return result(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
}

int clx_link_set_up(const char *name, int up) {
  struct ifreq request;
  int fd = link_request(name, &request);
  if (fd < 0) return fd;
  int error = result(ioctl(fd, SIOCGIFFLAGS, &request));
  if (error == 0) {
    request.ifr_flags = (short)(up ? request.ifr_flags | IFF_UP : request.ifr_flags & ~IFF_UP);
    error = result(ioctl(fd, SIOCSIFFLAGS, &request));
  }
  close(fd);
  return error;
}

int clx_link_set_mtu(const char *name, int mtu) {
  struct ifreq request;
  int fd = link_request(name, &request);
  if (fd < 0) return fd;
  request.ifr_mtu = mtu;
  int error = result(ioctl(fd, SIOCSIFMTU, &request));
  close(fd);
  return error;
}

int clx_path_kind(const char *path) {
  struct stat status;
  if (lstat(path, &status) < 0) return errno == ENOENT ? 0 : -errno;
  return S_ISSOCK(status.st_mode) ? 1 : 2;
}

int clx_chown(const char *path, int64_t uid, int64_t gid) {
  return result(lchown(path, uid < 0 ? (uid_t)-1 : (uid_t)uid, gid < 0 ? (gid_t)-1 : (gid_t)gid));
}

int clx_chmod(const char *path, unsigned mode) { return result(fchmodat(AT_FDCWD, path, (mode_t)mode, AT_SYMLINK_NOFOLLOW)); }

int clx_link_exists(const char *name) {
  struct ifreq request;
  int fd = link_request(name, &request);
  if (fd < 0) return fd;
  int error = result(ioctl(fd, SIOCGIFINDEX, &request));
  close(fd);
  return error == 0 ? 1 : error == -ENODEV ? 0 : error;
}
