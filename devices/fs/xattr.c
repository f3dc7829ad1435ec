/* SPDX-License-Identifier: MIT */

/*
 * Extended attributes of a share's files. The guest gets those that mean the same on both sides:
 * "user.", and access control lists, in which owners are replaced as in the files' attributes. It
 * neither sees nor sets others: the host's kernel acts on "security." and "trusted.".
 *
 * O_PATH descriptors have no fgetxattr(), so the calls take the file's name in /proc/self/fd.
 */
#include <endian.h>
#include <errno.h>
#include <limits.h>
#include <linux/posix_acl_xattr.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/xattr.h>

#include "devices/fs/share_internal.h"
#include "vmm/core/cleanup.h"
#include "vmm/core/open.h"

#define ACL_ACCESS  "system.posix_acl_access"
#define ACL_DEFAULT "system.posix_acl_default"

/* <linux/posix_acl.h>: tags of entries with an id */
#define ACL_USER  0x02
#define ACL_GROUP 0x08

static bool xattr_is_acl(const char *name)
{
    return !strcmp(name, ACL_ACCESS) || !strcmp(name, ACL_DEFAULT);
}

static bool xattr_shared(const char *name)
{
    return (!strncmp(name, "user.", 5) && name[5]) || xattr_is_acl(name);
}

/* An O_PATH descriptor, owned by the caller, if the file can have the attribute; or -errno. */
static int xattr_open(struct share *share, uint64_t id, const char *name)
{
    struct node *node = share_find_node(share, id);

    NODE_SCOPE(&share->tree.nodes, node);
    if (!node)
        return -ESTALE;
    if (!xattr_shared(name) || !(S_ISREG(node->identity.type) || S_ISDIR(node->identity.type)))
        return -EOPNOTSUPP;
    return tree_open_path(&share->tree, node, NULL);
}

/* Replaces ids in an access control list: those of the host by the guest's, or back. */
static void xattr_map_acl(const struct owners *owners, void *value, size_t size, bool to_guest)
{
    const uint32_t host[] = { owners->uid, owners->gid };
    const uint32_t guest[] = { owners->guest_uid, owners->guest_gid };
    struct posix_acl_xattr_entry entry;
    const uint32_t *from = to_guest ? host : guest, *to = to_guest ? guest : host;

    for (size_t at = sizeof(struct posix_acl_xattr_header); at < size; at += sizeof(entry)) {
        bool group;

        if (size - at < sizeof(entry))
            return; /* the host refuses it */
        memcpy(&entry, (char *)value + at, sizeof(entry));
        group = entry.e_tag == htole16(ACL_GROUP);
        if ((group || entry.e_tag == htole16(ACL_USER)) && le32toh(entry.e_id) == from[group])
            entry.e_id = htole32(to[group]);
        memcpy((char *)value + at, &entry, sizeof(entry));
    }
}

int share_getxattr(struct share *share, uint64_t node, const char *name, void *value, size_t size)
{
    cleanup_close int fd = xattr_open(share, node, name);
    ssize_t length;

    if (fd < 0)
        return fd;
    length = TREE_CALL(&share->tree, getxattr(fd_path(fd).text, name, value, size));
    if (length < 0)
        return (int)length;
    if (size > 0 && xattr_is_acl(name))
        xattr_map_acl(&share->owners, value, (size_t)length, true);
    return (int)length;
}

int share_setxattr(struct share *share, uint64_t node, const char *name, void *value, size_t size,
                   uint32_t flags)
{
    cleanup_close int fd = xattr_open(share, node, name);

    if (fd < 0)
        return fd;
    if (xattr_is_acl(name))
        xattr_map_acl(&share->owners, value, size, false);
    return (int)TREE_CALL(&share->tree, setxattr(fd_path(fd).text, name, value, size, (int)flags));
}

int share_removexattr(struct share *share, uint64_t node, const char *name)
{
    cleanup_close int fd = xattr_open(share, node, name);

    if (fd < 0)
        return fd;
    return (int)TREE_CALL(&share->tree, removexattr(fd_path(fd).text, name));
}

/* Removes the names that are not shared from a list. Returns its new length. */
static size_t xattr_filter(char *list, size_t length)
{
    size_t kept = 0;

    for (size_t at = 0; at < length;) {
        size_t size = strnlen(list + at, length - at) + 1;

        if (at + size <= length && xattr_shared(list + at)) {
            memmove(list + kept, list + at, size);
            kept += size;
        }
        at += size;
    }
    return kept;
}

int share_listxattr(struct share *share, uint64_t node, char list[SHARE_XATTR_MAX])
{
    cleanup_close int fd = xattr_open(share, node, ACL_ACCESS);
    ssize_t length;

    if (fd == -EOPNOTSUPP) /* a link or a special file */
        return 0;
    if (fd < 0)
        return fd;
    length = TREE_CALL(&share->tree, listxattr(fd_path(fd).text, list, SHARE_XATTR_MAX));
    return length < 0 ? (int)length : (int)xattr_filter(list, (size_t)length);
}

bool share_has_default_acl(int directory)
{
    return getxattr(fd_path(directory).text, ACL_DEFAULT, NULL, 0) > 0;
}
