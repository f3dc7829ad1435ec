/* SPDX-License-Identifier: MIT */
#include "vmm/core/seccomp.h"

#include <assert.h>
#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "settings.h"
#include "vmm/core/cleanup.h"

/*
 * The program is a binary tree over the system calls' numbers. When a filter is loaded, Linux runs
 * it once for each system call there is, 1.5 us for each instruction on the way; and compiling
 * takes 0.15 us for each instruction there is. So the leaves are short lists.
 */
#define LEAF 4 /* calls */
#define RULE 7 /* instructions at most, with the way to it */
#define HEAD 8 /* instructions before them, and at the end */

/* The filter compares the low half of an argument: the first 32 of its 64 bits. */
static_assert(HOST_AUDIT_ARCH & __AUDIT_ARCH_LE, "the low half of an argument comes first");

struct seccomp_program {
    struct sock_fprog fprog;
    unsigned room;                    /* instructions */
    const struct seccomp_rule *rules; /* by call; those of one call in the order of the lists */
    uint32_t deny, deny_abi;          /* actions */
};

static void seccomp_add(struct seccomp_program *p, struct sock_filter instruction)
{
    assert(p->fprog.len < p->room);
    p->fprog.filter[p->fprog.len++] = instruction;
}

/* Loads the accumulator from this offset in struct seccomp_data. */
static void seccomp_load(struct seccomp_program *p, size_t offset)
{
    seccomp_add(p, (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (uint32_t)offset));
}

static void seccomp_return(struct seccomp_program *p, uint32_t action)
{
    seccomp_add(p, (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, action));
}

/* Continues at the `equal`-th instruction after the next one if the accumulator is `value`. */
static void seccomp_jump_if(struct seccomp_program *p, uint32_t value, unsigned equal)
{
    assert(equal <= UINT8_MAX);
    seccomp_add(p, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, equal, 0));
}

/* Skips `count` instructions. */
static void seccomp_skip(struct seccomp_program *p, unsigned count)
{
    seccomp_add(p, (struct sock_filter)BPF_STMT(BPF_JMP | BPF_JA, count));
}

static uint32_t seccomp_action(const struct seccomp_rule *rule)
{
    return rule->error ? SECCOMP_RET_ERRNO | rule->error : SECCOMP_RET_ALLOW;
}

/* Calls with one rule each that allows them. The accumulator contains the call's number. */
static void seccomp_add_plain(struct seccomp_program *p, unsigned first, unsigned end)
{
    for (unsigned i = first; i < end; i++)
        seccomp_jump_if(p, p->rules[i].call, end - i);
    seccomp_return(p, p->deny);
    seccomp_return(p, SECCOMP_RET_ALLOW);
}

static bool seccomp_is_alike(const struct seccomp_rule *a, const struct seccomp_rule *b)
{
    return a->argument.index == b->argument.index && a->argument.mask == b->argument.mask &&
           a->error == b->error;
}

/* Rules that look at the same bits of an argument, and do the same. */
static void seccomp_add_values(struct seccomp_program *p, unsigned first, unsigned end)
{
    const struct seccomp_rule *rule = &p->rules[first];

    seccomp_load(p, offsetof(struct seccomp_data, args) + 8 * rule->argument.index);
    if (rule->argument.mask != UINT32_MAX)
        seccomp_add(p,
                    (struct sock_filter)BPF_STMT(BPF_ALU | BPF_AND | BPF_K, rule->argument.mask));
    for (unsigned i = first; i < end; i++)
        seccomp_jump_if(p, p->rules[i].argument.value, end - i);
    seccomp_skip(p, 1);
    seccomp_return(p, seccomp_action(rule));
}

/* All rules of one call. */
static void seccomp_add_call(struct seccomp_program *p, unsigned first, unsigned end)
{
    unsigned next;

    seccomp_jump_if(p, p->rules[first].call, 1);
    seccomp_return(p, p->deny);
    for (; first < end && p->rules[first].argument.mask; first = next) {
        for (next = first + 1; next < end; next++)
            if (!seccomp_is_alike(&p->rules[first], &p->rules[next]))
                break;
        seccomp_add_values(p, first, next);
    }
    seccomp_return(p, first < end ? seccomp_action(&p->rules[first]) : p->deny);
}

/* The first rule of a call of the right half, so that both halves have about as many rules. */
static unsigned seccomp_middle(const struct seccomp_program *p, unsigned first, unsigned end)
{
    unsigned middle = first + (end - first) / 2;
    unsigned left = middle, right = middle;

    while (left > first && p->rules[left - 1].call == p->rules[left].call)
        left--;
    while (right < end && p->rules[right].call == p->rules[middle].call)
        right++;
    return left > first ? left : right;
}

static bool seccomp_is_plain(const struct seccomp_program *p, unsigned first, unsigned end)
{
    if (end - first > LEAF)
        return false;
    for (unsigned i = first; i < end; i++)
        if (p->rules[i].argument.mask || p->rules[i].error ||
            (i > first && p->rules[i].call == p->rules[i - 1].call))
            return false;
    return true;
}

static void seccomp_add_tree(struct seccomp_program *p, unsigned first, unsigned end)
{
    unsigned middle = seccomp_middle(p, first, end);
    bool far = (middle - first) * RULE > UINT8_MAX; /* for a conditional jump */
    unsigned at;

    if (seccomp_is_plain(p, first, end)) {
        seccomp_add_plain(p, first, end);
        return;
    }
    if (middle == end) {
        seccomp_add_call(p, first, end);
        return;
    }
    at = p->fprog.len;
    seccomp_add(
        p, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, p->rules[middle].call, 0, far));
    if (far)
        seccomp_skip(p, 0);
    seccomp_add_tree(p, first, middle);
    if (far)
        p->fprog.filter[at + 1].k = p->fprog.len - at - 2u;
    else
        p->fprog.filter[at].jt = (uint8_t)(p->fprog.len - at - 1u);
    seccomp_add_tree(p, middle, end);
}

/* The rule as it is for this process. */
static struct seccomp_rule seccomp_bind(const struct seccomp_rule *rule)
{
    struct seccomp_rule bound = *rule;

    assert(rule->reason && !(rule->own_process && rule->argument.mask));
    if (rule->own_process) {
        bound.argument.mask = UINT32_MAX;
        bound.argument.value = (uint32_t)getpid();
    }
    return bound;
}

static bool seccomp_is_same(const struct seccomp_rule *a, const struct seccomp_rule *b)
{
    return a->call == b->call && seccomp_is_alike(a, b) && a->argument.value == b->argument.value;
}

/* Inserts a rule behind those of calls up to its own, unless it is there. Returns the new count. */
static unsigned seccomp_insert(struct seccomp_rule *sorted, unsigned count,
                               struct seccomp_rule rule)
{
    unsigned at = count;

    while (at > 0 && sorted[at - 1].call > rule.call)
        at--;
    for (unsigned i = at; i > 0 && sorted[i - 1].call == rule.call; i--)
        if (seccomp_is_same(&sorted[i - 1], &rule))
            return count;
    memmove(&sorted[at + 1], &sorted[at], (count - at) * sizeof(*sorted));
    sorted[at] = rule;
    return count + 1;
}

static unsigned seccomp_sort(struct seccomp_rule *sorted, const struct seccomp_list *lists,
                             unsigned count)
{
    unsigned used = 0;

    for (unsigned i = 0; i < count; i++)
        for (unsigned j = 0; j < lists[i].count; j++)
            used = seccomp_insert(sorted, used, seccomp_bind(&lists[i].rules[j]));
    return used;
}

/* `flags`: SECCOMP_FILTER_FLAG_*. */
static int seccomp_load_lists(const struct seccomp_list *lists, unsigned count,
                              enum seccomp_denial denial, unsigned flags)
{
    struct seccomp_program p = {
        .deny = denial == SECCOMP_TRAP ? SECCOMP_RET_TRAP : SECCOMP_RET_ERRNO | EPERM,
        .deny_abi = denial == SECCOMP_TRAP ? SECCOMP_RET_KILL_PROCESS : SECCOMP_RET_ERRNO | EPERM,
    };
    cleanup_free struct sock_filter *filter = NULL;
    cleanup_free struct seccomp_rule *sorted = NULL;
    unsigned total = 0;
    long result;

    for (unsigned i = 0; i < count; i++)
        total += lists[i].count;
    p.room = HEAD + total * RULE;
    filter = malloc(p.room * sizeof(*filter));
    sorted = malloc(total * sizeof(*sorted));
    if (!filter || !sorted)
        return -ENOMEM;
    p.fprog.filter = filter;
    p.rules = sorted;
    seccomp_load(&p, offsetof(struct seccomp_data, arch));
    seccomp_add(&p, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, HOST_AUDIT_ARCH, 1, 0));
    seccomp_return(&p, p.deny_abi);
    seccomp_load(&p, offsetof(struct seccomp_data, nr));
    seccomp_add_tree(&p, 0, seccomp_sort(sorted, lists, count));
    result = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &p.fprog);
    return result < 0 ? -errno : result > 0 ? -EBUSY : 0; /* positive: the id of such a thread */
}

int seccomp_restrict(const struct seccomp_list *lists, unsigned count, enum seccomp_denial denial)
{
    return seccomp_load_lists(lists, count, denial, 0);
}

int seccomp_restrict_process(const struct seccomp_list *lists, unsigned count,
                             enum seccomp_denial denial)
{
    return seccomp_load_lists(lists, count, denial, SECCOMP_FILTER_FLAG_TSYNC);
}

const char *seccomp_thread_hint(int error)
{
    return error == EPERM
               ? " (a container's seccomp filter must allow clone3(), or let it fail with "
                 "ENOSYS: Docker since 20.10.10 does)"
               : "";
}
