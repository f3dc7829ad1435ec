/* SPDX-License-Identifier: MIT */
#ifndef DEVICES_FS_CONFINE_H
#define DEVICES_FS_CONFINE_H

#include <stdbool.h>
#include <stdint.h>

#include "vmm/core/seccomp.h"

/*
 * Permanently restricts the calling thread to what serving the directory `root` (an O_PATH
 * descriptor) needs: Landlock allows files beneath it only, and no writes unless `writable`; a
 * seccomp filter allows a file server's system calls; if it runs as root, capabilities are dropped.
 *
 * This is a second line of defence behind the checks of tree.c and fuse.c. What the host does not
 * support is skipped with a debug message. The thread still shares its memory with the rest of the
 * process: this stops a server that was tricked into a system call, not injected code.
 */
void confine_thread(int root, bool writable);

/* What confine_thread() leaves: system calls, and capabilities of root (bits of CAP_*). */
extern const struct seccomp_list confine_rules;
extern const struct seccomp_list confine_write_rules; /* more, if `writable` */
uint32_t confine_capabilities(bool writable);

#endif
