/* SPDX-License-Identifier: MIT */
#ifndef VMM_RUN_INITRAMFS_H
#define VMM_RUN_INITRAMFS_H

#include <stdbool.h>
#include <stdint.h>

/*
 * An initramfs that runs one command and tells the host about it: our init, its orders and the
 * kernel modules that the machine needs. What the init does with each of these, and what it says,
 * is in firmware/guest/orders.h.
 */
struct buffer;

/* OUTPUT, for the error stream only: where output goes, so that the two keep their order. */
enum initramfs_stream { INITRAMFS_NULL, INITRAMFS_TTY, INITRAMFS_PORT, INITRAMFS_OUTPUT };

struct initramfs_share {
    const char *tag;
    const char *directory; /* absolute, in the guest */
    bool writable;
};

struct initramfs {
    const char *version; /* the kernel's, by kernel_version() */
    const char
        *modules; /* the directory, by modules_find(); NULL: all that is needed is built in */

    const char *const *argv; /* ends with NULL, has at least one word */
    const char *const *env;  /* ends with NULL; exactly what the command gets */
    const char *cwd;         /* absolute */
    const char *hostname;
    uint32_t uid, gid;
    const uint32_t *groups; /* supplementary */
    unsigned group_count;

    const char *tty; /* "hvc0"; NULL: no controlling terminal */
    unsigned rows, columns;
    enum initramfs_stream input, output, error;

    const struct initramfs_share *shares; /* besides the root, in the order of mounting */
    unsigned share_count;
    bool network; /* the first card is a user-mode network */
};

/* Appends the whole archive. Prints why it cannot, -errno; `ret` then holds part of it. */
int initramfs_build(struct buffer *ret, const struct initramfs *what);

/* The same as a descriptor of a sealed memory file, for struct config's initrd_fd. */
int initramfs_create(int *ret_fd, const struct initramfs *what);

#endif
