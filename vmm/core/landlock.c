/* SPDX-License-Identifier: MIT */
#include "vmm/core/landlock.h"

#include <errno.h>
#include <linux/landlock.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "vmm/core/cleanup.h"

/* Rights that headers of Linux 6.1 do not have yet; values of include/uapi/linux/landlock.h. */
#define FS_REFER     (1ull << 13)
#define FS_TRUNCATE  (1ull << 14)
#define FS_IOCTL_DEV (1ull << 15)
#define NET_TCP      3 /* bind() and connect() */
#define SCOPE_SOCKET 1 /* abstract sockets; not signals, for which seccomp is */

/* struct landlock_ruleset_attr, as of ABI 6. */
struct landlock_rights {
    uint64_t fs, net, scoped;
};

#define ACCESS_READ (LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR)
#define ACCESS_WRITE                                                                              \
    (LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_REMOVE_DIR |                              \
     LANDLOCK_ACCESS_FS_REMOVE_FILE | LANDLOCK_ACCESS_FS_MAKE_DIR | LANDLOCK_ACCESS_FS_MAKE_REG | \
     LANDLOCK_ACCESS_FS_MAKE_SYM | LANDLOCK_ACCESS_FS_MAKE_FIFO | LANDLOCK_ACCESS_FS_MAKE_SOCK |  \
     FS_REFER | FS_TRUNCATE)
/* Denied in writable trees, too. */
#define ACCESS_NEVER                                                                             \
    (LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_MAKE_CHAR | LANDLOCK_ACCESS_FS_MAKE_BLOCK | \
     FS_IOCTL_DEV)

/* What each ABI adds. */
static const struct {
    long abi;
    struct landlock_rights rights;
} landlock_later[] = {
    { 2, { .fs = FS_REFER } },     { 3, { .fs = FS_TRUNCATE } },      { 4, { .net = NET_TCP } },
    { 5, { .fs = FS_IOCTL_DEV } }, { 6, { .scoped = SCOPE_SOCKET } },
};

/* All rights that this ABI knows, and the size of the structure that it takes. */
static struct landlock_rights landlock_known(long abi, size_t *ret_size)
{
    struct landlock_rights known = { ACCESS_READ | ACCESS_WRITE | ACCESS_NEVER, NET_TCP,
                                     SCOPE_SOCKET };

    for (unsigned i = 0; i < sizeof(landlock_later) / sizeof(landlock_later[0]); i++)
        if (abi < landlock_later[i].abi) {
            known.fs &= ~landlock_later[i].rights.fs;
            known.net &= ~landlock_later[i].rights.net;
            known.scoped &= ~landlock_later[i].rights.scoped;
        }
    *ret_size = abi < 4 ? sizeof(known.fs) : abi < 6 ? 2 * sizeof(known.fs) : sizeof(known);
    return known;
}

int landlock_restrict(const struct landlock_tree *trees, unsigned count)
{
    long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
    struct landlock_rights handled;
    cleanup_close int rules = -1;
    size_t size;

    if (abi < 0)
        return -errno;
    handled = landlock_known(abi, &size);
    rules = (int)syscall(SYS_landlock_create_ruleset, &handled, size, 0);
    if (rules < 0)
        return -errno;
    for (unsigned i = 0; i < count; i++) {
        const struct landlock_path_beneath_attr rule = {
            .allowed_access = handled.fs & (ACCESS_READ | (trees[i].writable ? ACCESS_WRITE : 0)),
            .parent_fd = trees[i].fd,
        };

        if (trees[i].writable && !(handled.fs & FS_REFER))
            return -EOPNOTSUPP;
        if (syscall(SYS_landlock_add_rule, rules, LANDLOCK_RULE_PATH_BENEATH, &rule, 0) < 0)
            return -errno;
    }
    return syscall(SYS_landlock_restrict_self, rules, 0) < 0 ? -errno : 0;
}
