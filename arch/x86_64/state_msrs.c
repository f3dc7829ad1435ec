/* SPDX-License-Identifier: MIT */
#include "arch/x86_64/state_msrs.h"

#include <errno.h>
#include <linux/kvm.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/core/base.h"
#include "vmm/core/cleanup.h"
#include "vmm/core/state.h"
#include "vmm/kvm/vm.h"

#define MSR_TSC          0x10u
#define MSR_TSC_DEADLINE 0x6e0u
#define MSR_MCG_CTL      0x17bu /* KVM lists it, and has it only with MCG_CTL_P */

#define TSC_FAR (1ull << 62) /* centuries */

#define HYPERV_FIRST 0x40000000u /* Hyper-V's; not offered, and some count time */
#define HYPERV_LAST  0x400001ffu

#define BATCH 256 /* KVM's limit for one call */

/* What KVM_GET_MSR_INDEX_LIST leaves out. */
static const struct msr_range {
    uint32_t first, last;
} unlisted[] = {
    { 0x200, 0x20f }, { 0x250, 0x250 }, { 0x258, 0x259 },
    { 0x268, 0x26f }, { 0x2ff, 0x2ff }, /* MTRRs */
    { 0x17a, 0x17a },                   /* IA32_MCG_STATUS */
    { 0x400, 0x47f },                   /* 32 banks of machine checks */
};

static bool msr_is_kept(uint32_t index)
{
    return index != MSR_TSC && index != MSR_TSC_DEADLINE && index != MSR_MCG_CTL &&
           (index < HYPERV_FIRST || index > HYPERV_LAST);
}

static void msrs_add(struct msr_indexes *list, uint32_t index)
{
    for (unsigned i = 0; i < list->count; i++)
        if (list->index[i] == index)
            return;
    if (msr_is_kept(index) && list->count < MAX_MSRS)
        list->index[list->count++] = index;
}

bool msrs_list(int kvm, struct msr_indexes *ret)
{
    cleanup_free struct kvm_msr_list *known =
        calloc(1, sizeof(*known) + MAX_MSRS * sizeof(known->indices[0]));

    if (!known)
        return false;
    known->nmsrs = MAX_MSRS;
    if (vm_ioctl(kvm, KVM_GET_MSR_INDEX_LIST, known) < 0)
        known->nmsrs = 0;
    for (unsigned i = 0; i < known->nmsrs; i++)
        msrs_add(ret, known->indices[i]);
    for (unsigned i = 0; i < ARRAY_SIZE(unlisted); i++)
        for (uint32_t index = unlisted[i].first; index <= unlisted[i].last; index++)
            msrs_add(ret, index);
    return true;
}

union msr_batch {
    struct kvm_msrs head;
    uint8_t bytes[sizeof(struct kvm_msrs) + BATCH * sizeof(struct kvm_msr_entry)];
};

static unsigned batch_size(unsigned left)
{
    return left < BATCH ? left : BATCH;
}

/* One register. False: the vCPU does not have it. */
static bool msr_read(int vcpu, uint32_t index, uint64_t *ret)
{
    union msr_batch batch = { .head.nmsrs = 1 };

    batch.head.entries[0] = (struct kvm_msr_entry){ .index = index };
    if (vm_ioctl(vcpu, KVM_GET_MSRS, &batch) != 1)
        return false;
    *ret = batch.head.entries[0].data;
    return true;
}

static void msr_write(int vcpu, uint32_t index, uint64_t data, struct state *s)
{
    union msr_batch batch = { .head.nmsrs = 1 };

    batch.head.entries[0] = (struct kvm_msr_entry){ .index = index, .data = data };
    if (!s->error && vm_ioctl(vcpu, KVM_SET_MSRS, &batch) != 1)
        state_fail(s, "MSR %#x cannot be set to %#llx on this host", index,
                   (unsigned long long)data);
}

/*
 * Reads `count` registers into `msrs`, whose indexes are set; one that the vCPU lacks gets
 * `present` false. KVM_GET_MSRS stops at such a one.
 */
static void msrs_read(int vcpu, struct msr *msrs, bool *present, unsigned count, struct state *s)
{
    union msr_batch batch;
    unsigned at = 0;

    while (at < count && !s->error) {
        unsigned size = batch_size(count - at);
        int done;

        batch.head = (struct kvm_msrs){ .nmsrs = size };
        for (unsigned i = 0; i < size; i++)
            batch.head.entries[i] = (struct kvm_msr_entry){ .index = msrs[at + i].index };
        done = vm_ioctl(vcpu, KVM_GET_MSRS, &batch);
        if (done < 0)
            state_fail(s, "KVM_GET_MSRS: %s", strerror(errno));
        for (int i = 0; i < done; i++, at++) {
            msrs[at].data = batch.head.entries[i].data;
            present[at] = true;
        }
        if (done >= 0 && (unsigned)done < size)
            present[at++] = false;
    }
}

void msrs_get(int vcpu, const struct msr_indexes *indexes, struct msr_list *ret, struct state *s)
{
    bool present[MAX_MSRS];

    if (!msr_read(vcpu, MSR_TSC, &ret->tsc))
        state_fail(s, "KVM does not tell the time stamp counter");
    msr_read(vcpu, MSR_TSC_DEADLINE, &ret->deadline);
    for (unsigned i = 0; i < indexes->count; i++)
        ret->msrs[i].index = indexes->index[i];
    msrs_read(vcpu, ret->msrs, present, indexes->count, s);
    ret->count = 0;
    for (unsigned i = 0; i < indexes->count && !s->error; i++)
        if (present[i])
            ret->msrs[ret->count++] = ret->msrs[i];
}

void msrs_state(struct msr_list *list, struct state *s)
{
    state_u64(s, "deadline", &list->deadline);
    list->count = state_count(s, "msrs", list->count, MAX_MSRS);
    for (unsigned i = 0; i < list->count; i++) {
        state_u32(s, "index", &list->msrs[i].index);
        state_u64(s, "data", &list->msrs[i].data);
    }
}

void msrs_set(int vcpu, const struct msr_list *list, uint64_t tsc, struct state *s)
{
    cleanup_free struct msr *now = calloc(MAX_MSRS, sizeof(*now));
    bool present[MAX_MSRS];

    if (!now) {
        state_fail(s, "out of memory");
        return;
    }
    msr_write(vcpu, MSR_TSC, tsc, s);
    memcpy(now, list->msrs, list->count * sizeof(*now));
    msrs_read(vcpu, now, present, list->count, s);
    for (unsigned i = 0; i < list->count && !s->error; i++)
        if (!present[i] || now[i].data != list->msrs[i].data)
            msr_write(vcpu, list->msrs[i].index, list->msrs[i].data, s);
}

void msrs_begin_tsc(int vcpu, uint64_t tsc, struct state *s)
{
    msr_write(vcpu, MSR_TSC, tsc + TSC_FAR, s);
}

void msrs_set_deadline(int vcpu, const struct msr_list *list, struct state *s)
{
    if (list->deadline)
        msr_write(vcpu, MSR_TSC_DEADLINE, list->deadline, s);
}

void msrs_clear_deadline(int vcpu, struct state *s)
{
    msr_write(vcpu, MSR_TSC_DEADLINE, 0, s);
}

void msrs_compare(int vcpu, const struct msr_list *list, struct state *s)
{
    cleanup_free struct msr *now = calloc(MAX_MSRS, sizeof(*now));
    bool present[MAX_MSRS];

    if (!now) {
        state_fail(s, "out of memory");
        return;
    }
    memcpy(now, list->msrs, list->count * sizeof(*now));
    msrs_read(vcpu, now, present, list->count, s);
    for (unsigned i = 0; i < list->count && !s->error; i++)
        if (!present[i] || now[i].data != list->msrs[i].data)
            state_fail(s, "MSR %#x is %#llx, and was %#llx", now[i].index,
                       (unsigned long long)now[i].data, (unsigned long long)list->msrs[i].data);
}
