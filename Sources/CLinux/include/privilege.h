// What a process gives up: its user, its capabilities, the paths it may use (Landlock). As everywhere here, a
// call that fails returns -errno.
#ifndef CLINUX_PRIVILEGE_H
#define CLINUX_PRIVILEGE_H

#include <stdint.h>

// ---- Users and groups -------------------------------------------------------------------------------

/// The id of a user or group given by name or number; -ENOENT when there is none. However many members a group has.
int64_t clx_user_id(const char *name);
int64_t clx_group_id(const char *name);
/// The ids of a user given by name or number; a number that no name has is its own group. -ENOENT: none such.
int clx_user_ids(const char *name, unsigned *uid, unsigned *gid);
/// The groups that a user given by name or number is in, the primary one among them; returns their number, or -ERANGE.
int clx_user_groups(const char *name, unsigned gid, unsigned *groups, int capacity);
/// The supplementary groups of this process; returns their number.
int clx_own_groups(unsigned *groups, int capacity);
/// Makes this process, for good, another user's: supplementary groups, group, user. The permitted capabilities
/// stay, the effective ones go.
int clx_become(unsigned uid, unsigned gid, const unsigned *groups, int count);
/// The supplementary groups of the process that made the other end of a Unix socket; their number, or -ERANGE.
int clx_peer_groups(int socket, unsigned *groups, int capacity);

// ---- Capabilities (capabilities(7)) -----------------------------------------------------------------

int clx_capabilities_get(uint64_t *permitted, uint64_t *effective);
/// Permitted and effective become these, inheritable none.
int clx_capabilities_set(uint64_t permitted, uint64_t effective);
/// No program that this process might ever run gets any: empties the ambient and the bounding set.
int clx_capabilities_renounce(void);
/// PR_SET_NO_NEW_PRIVS.
int clx_no_new_privileges(void);

// ---- Landlock (landlock(7)) -------------------------------------------------------------------------

/// What the kernel knows of Landlock: its ABI, from 1; -ENOSYS or -EOPNOTSUPP when it has none in force.
int clx_landlock_abi(void);
/// A set of rules that denies these accesses to all that no rule names. `network` needs ABI 4, `scoped` 6.
int clx_landlock_create(uint64_t files, uint64_t network, uint64_t scoped);
/// Allows `access` at and below what `path`, opened with clx_open_path, is.
int clx_landlock_allow(int rules, int path, uint64_t access);
/// From now on for this thread and those it starts.
int clx_landlock_restrict(int rules);
/// A descriptor that stands for a path and gives no access to it (O_PATH).
int clx_open_path(const char *path);
/// 1: the descriptor is of a directory.
int clx_is_directory(int fd);

#endif
