#define _GNU_SOURCE
#include "clinux.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <linux/membarrier.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
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
#include <sys/resource.h>
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
  struct pollfd set[5];
  if (count < 0 || count > 5) return -EINVAL;
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

int64_t clx_file_allocated(int fd) {
  struct stat status;
  return fstat(fd, &status) < 0 ? -errno : status.st_blocks * 512;
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

int clx_affinity_set(int thread, const int *cpus, int count) {
  cpu_set_t set;
  CPU_ZERO(&set);
  for (int i = 0; i < count; i++) {
    if (cpus[i] < 0 || cpus[i] >= CPU_SETSIZE) return -EINVAL;
    CPU_SET(cpus[i], &set);
  }
  return result(sched_setaffinity(thread, sizeof set, &set));
}

int clx_thread_id(void) { return (int)syscall(SYS_gettid); }

int clx_thread_cpu(int thread) {
  char path[64], text[1024];
  snprintf(path, sizeof path, "/proc/self/task/%d/stat", thread);
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return -errno;
  ssize_t count = read(fd, text, sizeof text - 1);
  int error = -errno;
  close(fd);
  if (count < 0) return error;
  text[count] = 0;
  // proc(5): the 2nd field, in parentheses, may contain anything; "processor" is the 39th.
  const char *field = strrchr(text, ')');
  for (int number = 2; field != NULL && number < 39; number++) field = strchr(field + 1, ' ');
  return field == NULL ? -EINVAL : atoi(field);
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

int clx_tap_identity(int fd, char *name, uint8_t *address) {
  struct ifreq request;
  memset(&request, 0, sizeof request);
  if (ioctl(fd, TUNGETIFF, &request) < 0) return -errno;
  memcpy(name, request.ifr_name, IFNAMSIZ);
  // The descriptor's own device is meant, whatever name stands in the request.
  if (ioctl(fd, SIOCGIFHWADDR, &request) < 0) return -errno;
  memcpy(address, request.ifr_hwaddr.sa_data, 6);
  return 0;
}

int clx_tap_is_up(int fd) {
  // Since Linux 5.2 a TAP's descriptor takes frames only while its device is up, and poll(2) says so.
  struct pollfd entry = {.fd = fd, .events = POLLOUT};
  if (poll(&entry, 1, 0) < 0) return -errno;
  return (entry.revents & POLLOUT) != 0 && (entry.revents & POLLERR) == 0;
}

static const struct rtattr *find_attribute(const struct rtattr *first, int length, int type) {
  for (const struct rtattr *entry = first; RTA_OK(entry, length); entry = RTA_NEXT(entry, length))
    if ((entry->rta_type & NLA_TYPE_MASK) == type) return entry;
  return NULL;
}

static uint32_t attribute_word(const struct rtattr *attribute) {
  uint32_t word = 0;
  size_t length = RTA_PAYLOAD(attribute);
  memcpy(&word, RTA_DATA(attribute), length < sizeof word ? length : sizeof word);
  return word;
}

// linux/if_link.h: numbers that older copies of it lack.
enum { tun_num_queues = 8, tun_num_disabled_queues = 9, skip_statistics = 1 << 3 };

static void read_link(const struct nlmsghdr *message, struct clx_link *link) {
  const struct ifinfomsg *info = NLMSG_DATA(message);
  const struct rtattr *first = IFLA_RTA(info);
  int length = (int)IFLA_PAYLOAD(message);
  memset(link, 0, sizeof *link);
  link->flags = info->ifi_flags;
  link->queues = -1;
  const struct rtattr *found = find_attribute(first, length, IFLA_MTU);
  if (found) link->mtu = (int)attribute_word(found);
  found = find_attribute(first, length, IFLA_ADDRESS);
  if (found && RTA_PAYLOAD(found) == sizeof link->address)
    memcpy(link->address, RTA_DATA(found), sizeof link->address);
  const struct rtattr *about = find_attribute(first, length, IFLA_LINKINFO);
  if (!about) return;
  const struct rtattr *inner = RTA_DATA(about);
  int innerLength = (int)RTA_PAYLOAD(about);
  const struct rtattr *kind = find_attribute(inner, innerLength, IFLA_INFO_KIND);
  const struct rtattr *data = find_attribute(inner, innerLength, IFLA_INFO_DATA);
  if (!kind || !data || RTA_PAYLOAD(kind) < 3 || memcmp(RTA_DATA(kind), "tun", 3) != 0) return;
  const struct rtattr *on = find_attribute(RTA_DATA(data), (int)RTA_PAYLOAD(data), tun_num_queues);
  const struct rtattr *off =
      find_attribute(RTA_DATA(data), (int)RTA_PAYLOAD(data), tun_num_disabled_queues);
  if (on) link->queues = (int)attribute_word(on) + (off ? (int)attribute_word(off) : 0);
}

int clx_link_query(const char *name, struct clx_link *link) {
  struct {
    struct nlmsghdr header;
    struct ifinfomsg info;
    char attributes[64];
  } request;
  memset(&request, 0, sizeof request);
  size_t length = strlen(name) + 1;
  if (length > IFNAMSIZ) return -ENAMETOOLONG;
  request.header.nlmsg_type = RTM_GETLINK;
  request.header.nlmsg_flags = NLM_F_REQUEST;
  request.header.nlmsg_seq = 1;
  struct rtattr *attribute = (struct rtattr *)request.attributes;
  attribute->rta_type = IFLA_IFNAME;
  attribute->rta_len = (unsigned short)RTA_LENGTH(length);
  memcpy(RTA_DATA(attribute), name, length);
  size_t used = RTA_ALIGN(attribute->rta_len);
  attribute = (struct rtattr *)(request.attributes + used);
  attribute->rta_type = IFLA_EXT_MASK;
  attribute->rta_len = RTA_LENGTH(sizeof(uint32_t));
  uint32_t mask = skip_statistics;
  memcpy(RTA_DATA(attribute), &mask, sizeof mask);
  used += RTA_ALIGN(attribute->rta_len);
  request.header.nlmsg_len = (uint32_t)(NLMSG_LENGTH(sizeof request.info) + used);

  int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
  if (fd < 0) return -errno;
  union {
    struct nlmsghdr header;
    char bytes[16384];
  } reply;
  // The kernel has answered when send(2) returns.
  ssize_t count = send(fd, &request, request.header.nlmsg_len, 0);
  if (count >= 0) count = recv(fd, &reply, sizeof reply, MSG_DONTWAIT | MSG_TRUNC);
  int error = count < 0 ? -errno : 0;
  close(fd);
  if (error != 0) return error;
  if (count > (ssize_t)sizeof reply || !NLMSG_OK(&reply.header, (unsigned)count)) return -EMSGSIZE;
  if (reply.header.nlmsg_type == NLMSG_ERROR) {
    const struct nlmsgerr *failure = NLMSG_DATA(&reply.header);
    return failure->error == -ENODEV ? 0 : failure->error < 0 ? failure->error : -EPROTO;
  }
  if (reply.header.nlmsg_type != RTM_NEWLINK) return -EPROTO;
  read_link(&reply.header, link);
  return 1;
}

int clx_link_watch(void) {
  int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE);
  if (fd < 0) return -errno;
  struct sockaddr_nl address;
  memset(&address, 0, sizeof address);
  address.nl_family = AF_NETLINK;
  address.nl_groups = RTMGRP_LINK;
  if (bind(fd, (struct sockaddr *)&address, sizeof address) < 0) {
    int error = -errno;
    close(fd);
    return error;
  }
  return fd;
}

void clx_link_drain(int fd) {
  char bytes[256];
  // ENOBUFS: there were more than fit. The next call goes on behind them.
  while (recv(fd, bytes, sizeof bytes, MSG_DONTWAIT) >= 0 || errno == ENOBUFS || errno == EINTR) {
  }
}

int64_t clx_thread_waits(void) {
  struct rusage usage;
  return getrusage(RUSAGE_THREAD, &usage) < 0 ? 0 : usage.ru_nvcsw;
}
