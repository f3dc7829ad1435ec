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
#include <sys/prctl.h>
#include <unistd.h>

#include "settings.h"
#include "vmm/core/cleanup.h"

/*
 * The program is a binary tree over the system calls' numbers. When a filter is loaded, Linux runs
 * it once for each system call there is, which takes most of the time: a tree halves it.
 */

/* The filter compares the low half of an argument: the first 32 of its 64 bits. */
static_assert(HOST_AUDIT_ARCH & __AUDIT_ARCH_LE, "the low half of an argument comes first");

struct seccomp_program {
    struct sock_fprog fprog;
    const struct seccomp_rule **rules; /* by call; those of one call in the order of the lists */
    uint32_t deny, deny_abi;           /* actions */
};

static void seccomp_add(struct seccomp_program *p, struct sock_filter instruction)
{
    assert(p->fprog.len < BPF_MAXINSNS);
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

/* Returns `action` if the accumulator is `value`. */
static void seccomp_return_if(struct seccomp_program *p, uint32_t value, uint32_t action)
{
    seccomp_add(p, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, 0, 1));
    seccomp_return(p, action);
}

static void seccomp_load_argument(struct seccomp_program *p, unsigned index, uint32_t mask)
{
    seccomp_load(p, offsetof(struct seccomp_data, args) + 8 * index);
    seccomp_add(p, (struct sock_filter)BPF_STMT(BPF_ALU | BPF_AND | BPF_K, mask));
}

static bool seccomp_same_bits(const struct seccomp_rule *a, const struct seccomp_rule *b)
{
    return a->argument.index == b->argument.index && a->argument.mask == b->argument.mask;
}

/* The argument that decides. mask 0: none. */
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

/* All rules of one call. The accumulator contains the call's number. */
static void seccomp_add_call(struct seccomp_program *p, unsigned first, unsigned end)
{
    struct seccomp_rule loaded = { .argument.mask = 0 };

    seccomp_add(
        p, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, p->rules[first]->call, 1, 0));
    seccomp_return(p, p->deny);
    for (unsigned i = first; i < end; i++) {
        struct seccomp_rule rule = seccomp_bind(p->rules[i]);
        uint32_t action = rule.error ? SECCOMP_RET_ERRNO | rule.error : SECCOMP_RET_ALLOW;

        if (!rule.argument.mask) {
            seccomp_return(p, action);
            return;
        }
        if (!seccomp_same_bits(&loaded, &rule))
            seccomp_load_argument(p, rule.argument.index, rule.argument.mask);
        loaded = rule;
        seccomp_return_if(p, rule.argument.value, action);
    }
    seccomp_return(p, p->deny);
}

/* The first rule of a call of the right half, so that both halves have about as many rules. */
static unsigned seccomp_middle(const struct seccomp_program *p, unsigned first, unsigned end)
{
    unsigned middle = first + (end - first) / 2;
    unsigned left = middle, right = middle;

    while (left > first && p->rules[left - 1]->call == p->rules[left]->call)
        left--;
    while (right < end && p->rules[right]->call == p->rules[middle]->call)
        right++;
    return left > first ? left : right;
}

static void seccomp_add_tree(struct seccomp_program *p, unsigned first, unsigned end)
{
    unsigned middle = seccomp_middle(p, first, end);
    unsigned jump;

    if (middle == end) {
        seccomp_add_call(p, first, end);
        return;
    }
    seccomp_add(
        p, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, p->rules[middle]->call, 0, 1));
    jump = p->fprog.len;
    seccomp_add(p, (struct sock_filter)BPF_STMT(BPF_JMP | BPF_JA, 0));
    seccomp_add_tree(p, first, middle);
    p->fprog.filter[jump].k = p->fprog.len - jump - 1u;
    seccomp_add_tree(p, middle, end);
}

static unsigned seccomp_sort(const struct seccomp_rule **sorted, const struct seccomp_list *lists,
                             unsigned count)
{
    unsigned used = 0;

    for (unsigned i = 0; i < count; i++)
        for (unsigned j = 0; j < lists[i].count; j++) {
            unsigned at = used++;

            for (; at > 0 && sorted[at - 1]->call > lists[i].rules[j].call; at--)
                sorted[at] = sorted[at - 1];
            sorted[at] = &lists[i].rules[j];
        }
    return used;
}

int seccomp_restrict(const struct seccomp_list *lists, unsigned count, enum seccomp_denial denial)
{
    struct seccomp_program p = {
        .deny = denial == SECCOMP_TRAP ? SECCOMP_RET_TRAP : SECCOMP_RET_ERRNO | EPERM,
        .deny_abi = denial == SECCOMP_TRAP ? SECCOMP_RET_KILL_PROCESS : SECCOMP_RET_ERRNO | EPERM,
    };
    cleanup_free struct sock_filter *filter = malloc(BPF_MAXINSNS * sizeof(*filter));
    cleanup_free const struct seccomp_rule **sorted = NULL;
    size_t total = 0;

    for (unsigned i = 0; i < count; i++)
        total += lists[i].count;
    sorted = malloc(total * sizeof(const struct seccomp_rule *));
    if (!filter || !sorted)
        return -ENOMEM;
    p.fprog.filter = filter;
    p.rules = sorted;
    seccomp_load(&p, offsetof(struct seccomp_data, arch));
    seccomp_add(&p, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, HOST_AUDIT_ARCH, 1, 0));
    seccomp_return(&p, p.deny_abi);
    seccomp_load(&p, offsetof(struct seccomp_data, nr));
    seccomp_add_tree(&p, 0, seccomp_sort(sorted, lists, count));
    return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &p.fprog) < 0 ? -errno : 0;
}
