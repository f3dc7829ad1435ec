/* SPDX-License-Identifier: MIT */
#ifndef DEVICES_FS_CONFINE_H
#define DEVICES_FS_CONFINE_H

#include <stdbool.h>

/*
 * The calling thread can never again reach files outside of what `root` names, nor change them
 * there if not `writable`, nor do with the kernel what a file server does not: Landlock, a seccomp
 * filter, and for root its capabilities. Each is a second lock behind the checks of tree.c and
 * fuse.c; a host that has none of them goes without. The memory of the process it shares with the
 * other threads: this holds a server that was talked into something, not foreign code in it.
 *
 * It leaves the process's umask behind, too: modes come from the guest, which has applied its own.
 */
void confine_thread(int root, bool writable);

#endif
