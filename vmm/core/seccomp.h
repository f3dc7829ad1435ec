/* SPDX-License-Identifier: MIT */
#ifndef VMM_CORE_SECCOMP_H
#define VMM_CORE_SECCOMP_H

#include <stdint.h>

/*
 * An allowed system call; with argument.mask != 0, only if that argument matches. A call may have
 * several rules: it is allowed if one of them matches. With `error` it fails with that instead of
 * EPERM.
 */
struct seccomp_rule {
    uint16_t call; /* SYS_... */
    struct {
        uint8_t index;        /* from 0 */
        uint32_t mask, value; /* matches if (low half of the argument & mask) == value */
    } argument;
    uint16_t error;     /* 0: allowed */
    const char *reason; /* what makes the call: documents the table; never NULL */
};

/*
 * From now on system calls of the calling thread fail with EPERM unless a rule allows them, and so
 * do all calls of another ABI of this CPU. Threads it creates inherit the filter; existing threads
 * do not. Needs no_new_privs (PR_SET_NO_NEW_PRIVS) or CAP_SYS_ADMIN. Prints nothing; -errno.
 */
int seccomp_restrict(const struct seccomp_rule *rules, unsigned count);

#endif
