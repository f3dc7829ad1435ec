/* SPDX-License-Identifier: MIT */
#ifndef VMM_RUN_INITRAMFS_H
#define VMM_RUN_INITRAMFS_H

#include <stdbool.h>
#include <stdint.h>

/*
 * Builds an initramfs with the agent, its job and the kernel modules that our devices need. The
 * meaning of each member below is in firmware/init/job.h.
 */
struct buffer;
struct etc;

/* OUTPUT: as 2>&1, for the error stream only. */
enum initramfs_stream { INITRAMFS_NULL, INITRAMFS_TTY, INITRAMFS_PORT, INITRAMFS_OUTPUT };

struct initramfs_share {
    const char *tag;
    const char *directory; /* absolute, in the guest */
    bool writable;
};

struct initramfs {
    bool warm;           /* the agent gets its job by its port: initramfs_send_job() */
    const char *version; /* of the kernel, from kernel_version() */
    const char *modules; /* directory, from modules_find(); NULL: add none */
    bool freeze;         /* the agent gets another job when the command has ended well */
    const char *hook;    /* with freeze: what the shell runs before that; NULL: nothing */

    const char *const *argv; /* ends with NULL; at least one word */
    const char *const *env;  /* ends with NULL; the command's complete environment */
    const char *cwd;         /* absolute; NULL: that of the command before */
    const char *hostname;    /* NULL: unchanged */
    uint32_t uid, gid;
    const uint32_t *groups; /* supplementary */
    unsigned group_count;

    const char *tty; /* "hvc0"; NULL: no controlling terminal */
    unsigned rows, columns;
    enum initramfs_stream input, output, error;

    const struct initramfs_share *shares; /* besides the root, in the order of mounting */
    unsigned share_count;
    const char *const *run;  /* ends with NULL; NULL: none */
    bool nic, disk, balloon; /* there is one: the kernel needs its driver */
    const char *network;     /* "eth0": the first in the user-mode network; NULL: none */
    const struct etc *etc;   /* NULL: the files of the root fit */
};

/*
 * Appends what the agent gets by its port, if `spec->warm`: a line and the job, with a seed for the
 * guest's random numbers.
 */
int initramfs_send_job(struct buffer *ret, const struct initramfs *spec);

/* Appends the archive to `ret`. Prints errors and returns -errno; `ret` then holds part of it. */
int initramfs_build(struct buffer *ret, const struct initramfs *spec);

/* Builds the archive in a sealed memfd, for struct config's initrd_fd. The caller closes it. */
int initramfs_create(int *ret_fd, const struct initramfs *spec);

#endif
