/* SPDX-License-Identifier: MIT */
#ifndef VMM_CORE_SECCOMP_H
#define VMM_CORE_SECCOMP_H

#include <stdbool.h>
#include <stdint.h>

/*
 * An allowed system call; with argument.mask != 0, only if that argument matches. A call may have
 * several rules: the first that matches decides. With `error` the call fails with that.
 */
struct seccomp_rule {
    uint16_t call; /* SYS_... */
    struct {
        uint8_t index;        /* from 0 */
        uint32_t mask, value; /* matches if (low half of the argument & mask) == value */
    } argument;
    bool own_process;   /* only if the first argument is this process's id */
    uint16_t error;     /* 0: allowed */
    const char *reason; /* what makes the call: documents the table; never NULL */
};

/* Rules for ioctl(), and for prctl() of one option. */
#define SECCOMP_IOCTL(request, why)                                                    \
    {                                                                                  \
        SYS_ioctl, .argument = { 1, UINT32_MAX, (uint32_t)(request) }, .reason = (why) \
    }
#define SECCOMP_PRCTL(option, why)                                          \
    {                                                                       \
        SYS_prctl, .argument = { 0, UINT32_MAX, (option) }, .reason = (why) \
    }

struct seccomp_list {
    const struct seccomp_rule *rules;
    unsigned count;
};

/* What happens to a call that no rule allows. */
enum seccomp_denial {
    SECCOMP_FAIL, /* EPERM */
    SECCOMP_TRAP, /* SIGSYS for the thread; a call of another ABI of this CPU ends the process */
};

/*
 * From now on the calling thread can make no system calls but those in one of the lists. Threads it
 * creates inherit the filter; existing threads do not. Of several filters of a thread the strictest
 * decides. Needs no_new_privs (PR_SET_NO_NEW_PRIVS) or CAP_SYS_ADMIN. Prints nothing; -errno.
 */
int seccomp_restrict(const struct seccomp_list *lists, unsigned count, enum seccomp_denial denial);

/* The same for all threads of the process. -EBUSY: one has a filter of its own. */
int seccomp_restrict_process(const struct seccomp_list *lists, unsigned count,
                             enum seccomp_denial denial);

/*
 * The remedy to print if a thread could not be started; "" if it is another error than that of a
 * container which is older than clone3(). libc does without it, but not on EPERM.
 */
const char *seccomp_thread_hint(int error);

#endif
