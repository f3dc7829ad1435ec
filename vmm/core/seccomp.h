/* SPDX-License-Identifier: MIT */
#ifndef VMM_CORE_SECCOMP_H
#define VMM_CORE_SECCOMP_H

#include <stdint.h>

/*
 * A system call that is still allowed; if `argument` has a mask, only with a matching argument. One
 * call may have several rules, of which one must match.
 */
struct seccomp_rule {
    uint16_t call; /* SYS_... */
    struct {
        uint8_t index;        /* from 0 */
        uint32_t mask, value; /* the low half of the argument, masked, is `value` */
    } argument;
    const char *reason; /* what makes the call; for those who read the table, never NULL */
};

/*
 * From now on every system call of the calling thread that no rule allows fails with EPERM, as
 * does any of another ABI of this CPU. Threads it starts inherit that, the others stay as they
 * are. The thread must have no_new_privs (PR_SET_NO_NEW_PRIVS) or CAP_SYS_ADMIN. Prints nothing;
 * -errno.
 */
int seccomp_restrict(const struct seccomp_rule *rules, unsigned count);

#endif
