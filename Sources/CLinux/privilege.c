#define _GNU_SOURCE
#include "privilege.h"

#include "clinux.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static inline int result(long value) { return value < 0 ? -errno : (int)value; }

// ---- Users and groups -------------------------------------------------------------------------------

/// Room for what the C library finds of a user or a group, the names of a group's members among it.
struct room {
  char *bytes;
  size_t size;
};

/// Makes more of it; 0 or an error number. 64 MiB hold a group of a million members.
static int enlarge(struct room *room) {
  size_t size = room->size == 0 ? 4096 : room->size * 4;
  char *bytes = size <= (size_t)1 << 26 ? realloc(room->bytes, size) : NULL;
  if (bytes == NULL) return ENOMEM;
  room->bytes = bytes;
  room->size = size;
  return 0;
}

/// Searches, with more room as long as there is too little (getpwnam_r(3)); 0 or an error number.
#define SEARCH(error, room, search) \
  do { \
    error = enlarge(&room); \
    if (error == 0) error = search; \
  } while (error == ERANGE)

/// What came of a search: that there is none such is said in many ways, and is not what a lack of memory or
/// descriptors means.
static int outcome(int error, const void *found) {
  switch (error) {
    case 0: return found != NULL ? 0 : -ENOENT;
    case ENOENT:
    case ESRCH:
    case EBADF:
    case EPERM: return -ENOENT;
    default: return -error;
  }
}

static int64_t number(const char *text) {
  char *end;
  errno = 0;
  unsigned long value = strtoul(text, &end, 10);
  return *text >= '0' && *text <= '9' && *end == 0 && errno == 0 && value < UINT32_MAX ? (int64_t)value : -1;
}

int64_t clx_user_id(const char *name) {
  int64_t id = number(name);
  if (id >= 0) return id;
  struct passwd entry, *found = NULL;
  struct room room = {NULL, 0};
  int error;
  SEARCH(error, room, getpwnam_r(name, &entry, room.bytes, room.size, &found));
  id = outcome(error, found);
  if (id == 0) id = entry.pw_uid;
  free(room.bytes);
  return id;
}

int64_t clx_group_id(const char *name) {
  int64_t id = number(name);
  if (id >= 0) return id;
  struct group entry, *found = NULL;
  struct room room = {NULL, 0};
  int error;
  SEARCH(error, room, getgrnam_r(name, &entry, room.bytes, room.size, &found));
  id = outcome(error, found);
  if (id == 0) id = entry.gr_gid;
  free(room.bytes);
  return id;
}

int clx_user_ids(const char *name, unsigned *uid, unsigned *gid) {
  int64_t id = clx_user_id(name);
  if (id < 0) return (int)id;
  struct passwd entry, *found = NULL;
  struct room room = {NULL, 0};
  int error;
  SEARCH(error, room, getpwuid_r((uid_t)id, &entry, room.bytes, room.size, &found));
  error = outcome(error, found);
  if (error == 0 || error == -ENOENT) {
    *uid = (unsigned)id;
    *gid = error == 0 ? entry.pw_gid : (unsigned)id;
    error = 0;
  }
  free(room.bytes);
  return error;
}

int clx_user_groups(const char *name, unsigned gid, unsigned *groups, int capacity) {
  struct passwd entry, *found = NULL;
  struct room room = {NULL, 0};
  int64_t id = number(name);
  int error = 0;
  // Groups list their members by name.
  if (id >= 0) SEARCH(error, room, getpwuid_r((uid_t)id, &entry, room.bytes, room.size, &found));
  int count = capacity;
  if (getgrouplist(error == 0 && found != NULL ? entry.pw_name : name, gid, groups, &count) < 0) count = -ERANGE;
  free(room.bytes);
  return count;
}

int clx_own_groups(unsigned *groups, int capacity) { return result(getgroups(capacity, groups)); }

int clx_become(unsigned uid, unsigned gid, const unsigned *groups, int count) {
  if (prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) < 0) return -errno;
  if (setgroups((size_t)count, groups) < 0) return -errno;
  if (setresgid(gid, gid, gid) < 0) return -errno;
  if (setresuid(uid, uid, uid) < 0) return -errno;
  return result(prctl(PR_SET_KEEPCAPS, 0, 0, 0, 0));
}

int clx_peer_groups(int socket, unsigned *groups, int capacity) {
  socklen_t length = (socklen_t)((size_t)capacity * sizeof *groups);
  // SO_PEERGROUPS, Linux 4.13.
  if (getsockopt(socket, SOL_SOCKET, 59, groups, &length) < 0) return -errno;
  return (int)(length / sizeof *groups);
}

// ---- Capabilities -----------------------------------------------------------------------------------

int clx_capabilities_get(uint64_t *permitted, uint64_t *effective) {
  struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
  struct __user_cap_data_struct data[2];
  memset(data, 0, sizeof data);
  if (syscall(SYS_capget, &header, data) < 0) return -errno;
  *permitted = (uint64_t)data[1].permitted << 32 | data[0].permitted;
  *effective = (uint64_t)data[1].effective << 32 | data[0].effective;
  return 0;
}

int clx_capabilities_set(uint64_t permitted, uint64_t effective) {
  struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
  struct __user_cap_data_struct data[2];
  memset(data, 0, sizeof data);
  for (int i = 0; i < 2; i++) {
    data[i].permitted = (uint32_t)(permitted >> 32 * i);
    data[i].effective = (uint32_t)(effective >> 32 * i);
  }
  return result(syscall(SYS_capset, &header, data));
}

int clx_capabilities_renounce(void) {
  if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0) return -errno;
  // Up to the first that this kernel does not know.
  for (unsigned long number = 0; number < 64; number++)
    if (prctl(PR_CAPBSET_DROP, number, 0, 0, 0) < 0) return errno == EINVAL ? 0 : -errno;
  return 0;
}

int clx_no_new_privileges(void) { return result(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)); }

// ---- Landlock ---------------------------------------------------------------------------------------
//
// The numbers and structures are the kernel's (linux/landlock.h), which older copies of its headers lack. The
// numbers of the system calls are the same on all architectures.

enum { landlock_create_ruleset = 444, landlock_add_rule = 445, landlock_restrict_self = 446 };

int clx_landlock_abi(void) { return result(syscall(landlock_create_ruleset, NULL, (size_t)0, 1u)); }

int clx_landlock_create(uint64_t files, uint64_t network, uint64_t scoped) {
  uint64_t attributes[3] = {files, network, scoped};
  // No longer than need be: an older kernel knows a shorter structure.
  size_t length = scoped != 0 ? 24 : network != 0 ? 16 : 8;
  return result(syscall(landlock_create_ruleset, attributes, length, 0u));
}

int clx_landlock_allow(int rules, int path, uint64_t access) {
  struct __attribute__((packed)) {
    uint64_t access;
    int32_t parent;
  } rule = {access, path};
  // LANDLOCK_RULE_PATH_BENEATH
  return result(syscall(landlock_add_rule, rules, 1, &rule, 0u));
}

int clx_landlock_restrict(int rules) { return result(syscall(landlock_restrict_self, rules, 0u)); }

int clx_open_path(const char *path) { return result(open(path, O_PATH | O_CLOEXEC)); }

int clx_is_directory(int fd) {
  struct stat status;
  if (fstat(fd, &status) < 0) return -errno;
  return S_ISDIR(status.st_mode);
}
