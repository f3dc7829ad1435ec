/* SPDX-License-Identifier: MIT */
#ifndef VMM_RUN_MODULES_H
#define VMM_RUN_MODULES_H

#include <stdbool.h>

/*
 * The modules of one kernel, as depmod(8) lists them. Files and lists may be anything: everything
 * is checked, and sizes are bounded. All functions print why they fail, and return -errno.
 */
struct buffer;
struct modules;

/*
 * The directory with the modules of kernel `version`. `given` is what the user named, with the
 * modules in it or in lib/modules/VERSION below it; if NULL they are looked for beside the kernel
 * file (DIR/boot/vmlinuz: DIR/lib/modules/VERSION), then in /lib/modules. The path is the caller's
 * to free; it is NULL where the user named "none", since all that is needed is built in.
 */
int modules_find(char **ret_directory, const char *given, const char *kernel, const char *version);

int modules_open(struct modules **ret, const char *directory, const char *version);
void modules_close(struct modules *modules); /* accepts NULL */

/*
 * Adds a module behind those it depends on, each once. Names with - and _ are the same. One that is
 * built into the kernel needs nothing; one that does not exist is an error only if it is `needed`.
 */
int modules_add(struct modules *modules, const char *name, bool needed);

/* What was added, in the order of loading. */
unsigned modules_count(const struct modules *modules);
const char *modules_name(const struct modules *modules, unsigned index); /* "virtio_mmio" */

/* Appends a module's bytes, decompressed. -EINVAL if it is of another kernel. */
int modules_read(const struct modules *modules, unsigned index, struct buffer *ret);

#endif
