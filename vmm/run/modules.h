/* SPDX-License-Identifier: MIT */
#ifndef VMM_RUN_MODULES_H
#define VMM_RUN_MODULES_H

#include <stdbool.h>
#include <stddef.h>

/*
 * Selects modules of one kernel and their dependencies from the lists of depmod(8). Does not trust
 * files and lists: contents are checked and sizes limited. All functions print errors and return
 * -errno.
 */
struct buffer;
struct modules;

/*
 * Finds the directory with the modules of kernel `version`. `given` is the user's directory: it has
 * the modules in it or in lib/modules/VERSION. If it is NULL, they are searched for beside the
 * kernel file (DIR/vmlinuz or DIR/boot/vmlinuz: DIR/lib/modules/VERSION), then in /lib/modules and
 * where NixOS has them. If it is "none", the result is NULL: the kernel has all drivers built in.
 * The caller frees the path.
 */
int modules_find(char **ret_directory, const char *given, const char *kernel, const char *version);

/* Whether the guest with the root directory `root` has `directory` in its /lib/modules. */
bool modules_shown(const char *directory, const char *root, const char *version);

int modules_open(struct modules **ret, const char *directory, const char *version);
void modules_close(struct modules *modules); /* accepts NULL */

/*
 * Adds a module after those it depends on, each once. In names, - and _ are the same. A module that
 * is built into the kernel adds nothing; one that does not exist is an error only if `needed`.
 */
int modules_add(struct modules *modules, const char *name, bool needed);

/* The added modules, in the order of loading. */
unsigned modules_count(const struct modules *modules);
const char *modules_name(const struct modules *modules, unsigned index); /* "virtio_mmio" */

/*
 * Takes the next device whose node loads its module when it is opened: "TYPE:MAJOR:MINOR:NAME",
 * TYPE c or b, NAME below /dev. `*at` starts at 0. False: there are no more.
 */
#define MODULES_NODE_SIZE 160
bool modules_next_node(const struct modules *modules, size_t *at, char ret[MODULES_NODE_SIZE]);

/* Appends a module's file, decompressed. -EINVAL if it belongs to another kernel. */
int modules_read(const struct modules *modules, unsigned index, struct buffer *ret);

#endif
