/* SPDX-License-Identifier: MIT */
#include "vmm/core/seccomp.h"

#include <assert.h>
#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/prctl.h>

#include "settings.h"
#include "vmm/core/cleanup.h"

#define DENY (SECCOMP_RET_ERRNO | EPERM)

/* Numbers of BPF instructions: before and after all rules; at most for one rule. */
#define FILTER_ENDS 5
#define FILTER_RULE 6

/* The filter compares the low half of an argument: the first 32 of its 64 bits. */
static_assert(HOST_AUDIT_ARCH & __AUDIT_ARCH_LE, "the low half of an argument comes first");

static void seccomp_add(struct sock_fprog *program, struct sock_filter instruction)
{
    program->filter[program->len++] = instruction;
}

/* Loads the accumulator from this offset in struct seccomp_data. */
static void seccomp_load(struct sock_fprog *program, size_t offset)
{
    seccomp_add(program, (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (uint32_t)offset));
}

static void seccomp_return(struct sock_fprog *program, uint32_t what)
{
    seccomp_add(program, (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, what));
}

/* Skips `equal` instructions if the accumulator is `value`, otherwise `other`. */
static void seccomp_compare(struct sock_fprog *program, uint32_t value, uint8_t equal,
                            uint8_t other)
{
    seccomp_add(program,
                (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, equal, other));
}

/* The accumulator contains the system call's number on entry, and again at the end. */
static void seccomp_add_rule(struct sock_fprog *program, const struct seccomp_rule *rule)
{
    uint32_t action = rule->error ? SECCOMP_RET_ERRNO | rule->error : SECCOMP_RET_ALLOW;

    assert(rule->reason);
    if (!rule->argument.mask) {
        seccomp_compare(program, rule->call, 0, 1);
        seccomp_return(program, action);
        return;
    }
    seccomp_compare(program, rule->call, 0, 5);
    seccomp_load(program, offsetof(struct seccomp_data, args) + 8 * rule->argument.index);
    seccomp_add(program,
                (struct sock_filter)BPF_STMT(BPF_ALU | BPF_AND | BPF_K, rule->argument.mask));
    seccomp_compare(program, rule->argument.value, 0, 1);
    seccomp_return(program, action);
    seccomp_load(program, offsetof(struct seccomp_data, nr));
}

int seccomp_restrict(const struct seccomp_rule *rules, unsigned count)
{
    cleanup_free struct sock_filter *filter =
        calloc(FILTER_ENDS + FILTER_RULE * (size_t)count, sizeof(*filter));
    struct sock_fprog program = { .filter = filter };

    assert(FILTER_ENDS + FILTER_RULE * count <= BPF_MAXINSNS);
    if (!filter)
        return -ENOMEM;
    seccomp_load(&program, offsetof(struct seccomp_data, arch));
    seccomp_compare(&program, HOST_AUDIT_ARCH, 1, 0);
    seccomp_return(&program, DENY);
    seccomp_load(&program, offsetof(struct seccomp_data, nr));
    for (unsigned i = 0; i < count; i++)
        seccomp_add_rule(&program, &rules[i]);
    seccomp_return(&program, DENY);
    return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) < 0 ? -errno : 0;
}
