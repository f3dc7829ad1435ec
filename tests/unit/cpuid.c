/* SPDX-License-Identifier: MIT */

/* The CPUID that vCPUs get, on hosts that the lanes of the tests do not have: AMD's. */
#include "arch/x86_64/cpuid.h"

#include <linux/kvm.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/ioctl.h>

#include "arch/x86_64/cpuid_host.h"
#include "tests/unit/unit.h"
#include "vmm/core/base.h"
#include "vmm/kvm/vcpu.h"
#include "vmm/kvm/vm.h"

#define AMD       0x68747541u /* "Auth" */
#define INTEL     0x756e6547u /* "Genu" */
#define TOPOLOGY  (1u << 22)  /* leaf 0x80000001, ECX */
#define CACHES    0x8000001du
#define SHARED_BY 0xfffu << 14 /* EAX of that leaf: threads, minus one */

/* A level 1 data, a level 1 instruction, a level 2 and a level 3 cache, of a CPU with 16 threads.
 */
static const struct kvm_cpuid_entry2 host_caches[] = {
    { .eax = 0x4121, .ebx = 0x1c0003f, .ecx = 63 },
    { .eax = 0x4122, .ebx = 0x1c0003f, .ecx = 63 },
    { .eax = 0x4143, .ebx = 0x1c0003f, .ecx = 1023, .edx = 2 },
    { .eax = 0x3c163, .ebx = 0x3c0003f, .ecx = 32767, .edx = 1 },
    { .eax = 0 },
};

static struct {
    uint32_t vendor, features; /* KVM's leaf 0, EBX, and 0x80000001, ECX */
    bool fills;                /* KVM has a first cache of its own */
    bool endless;              /* the host has no last cache */
} host;

/* What the vCPU was given. */
static union {
    struct kvm_cpuid2 head;
    uint8_t bytes[sizeof(struct kvm_cpuid2) + 256 * sizeof(struct kvm_cpuid_entry2)];
} got;

void __wrap_cpuid_read_host(struct kvm_cpuid_entry2 *entry);
int __wrap_ioctl(int fd, unsigned long request, ...);

void __wrap_cpuid_read_host(struct kvm_cpuid_entry2 *entry)
{
    const struct kvm_cpuid_entry2 *cache = &host_caches[host.endless ? 0 : entry->index];

    if (entry->function != CACHES)
        return;
    ck_assert_uint_lt(entry->index, 100);
    entry->eax = cache->eax;
    entry->ebx = cache->ebx;
    entry->ecx = cache->ecx;
    entry->edx = cache->edx;
}

static void supported(struct kvm_cpuid2 *cpuid)
{
    const struct kvm_cpuid_entry2 leaves[] = {
        { .function = 0, .eax = 0x10, .ebx = host.vendor },
        { .function = 1 },
        { .function = 0x80000000, .eax = 0x80000020 },
        { .function = 0x80000001, .ecx = host.features },
        { .function = CACHES,
          .flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
          .eax = host.fills ? 0x8121 : 0,
          .ebx = host.fills ? 0x3f : 0 },
    };

    ck_assert_uint_ge(cpuid->nent, ARRAY_SIZE(leaves));
    cpuid->nent = ARRAY_SIZE(leaves);
    memcpy(cpuid->entries, leaves, sizeof(leaves));
}

/* KVM. */
int __wrap_ioctl(int fd, unsigned long request, ...)
{
    struct kvm_cpuid2 *cpuid;
    va_list list;

    va_start(list, request);
    cpuid = va_arg(list, void *);
    va_end(list);
    if ((uint32_t)request == KVM_GET_SUPPORTED_CPUID) /* musl's request is an int */
        supported(cpuid);
    if ((uint32_t)request == KVM_SET_CPUID2)
        memcpy(&got, cpuid, sizeof(*cpuid) + cpuid->nent * sizeof(cpuid->entries[0]));
    return 0;
}

static void set_up(void)
{
    struct vm vm = { .vcpus_wanted = 4 };
    struct vcpu vcpu = { .vm = &vm };

    ck_assert_int_eq(cpuid_ask_host(&vm), 0);
    ck_assert_int_eq(cpuid_set(&vcpu), 0);
    free(vm.cpuid);
}

/* NULL: the guest sees zeros. */
static const struct kvm_cpuid_entry2 *cache(uint32_t index)
{
    for (unsigned i = 0; i < got.head.nent; i++)
        if (got.head.entries[i].function == CACHES && got.head.entries[i].index == index &&
            got.head.entries[i].eax)
            return &got.head.entries[i];
    return NULL;
}

START_TEST(caches_of_an_amd_host)
{
    host.vendor = AMD;
    host.features = TOPOLOGY;
    set_up();
    for (unsigned i = 0; host_caches[i].eax; i++) {
        const struct kvm_cpuid_entry2 *entry = cache(i), *wanted = &host_caches[i];
        uint32_t level = wanted->eax >> 5 & 7;

        ck_assert_ptr_nonnull(entry);
        ck_assert_uint_eq(entry->flags, KVM_CPUID_FLAG_SIGNIFCANT_INDEX);
        ck_assert_uint_eq(entry->eax & ~(SHARED_BY), wanted->eax & ~(SHARED_BY));
        ck_assert_uint_eq((entry->eax & (SHARED_BY)) >> 14, level == 3 ? 3 : 0);
        ck_assert_uint_eq(entry->ebx, wanted->ebx);
        ck_assert_uint_eq(entry->ecx, wanted->ecx);
        ck_assert_uint_eq(entry->edx, wanted->edx);
    }
    ck_assert_ptr_null(cache(ARRAY_SIZE(host_caches) - 1));
}
END_TEST

START_TEST(what_kvm_knows_is_kept)
{
    host.vendor = AMD;
    host.features = TOPOLOGY;
    host.fills = true;
    set_up();
    ck_assert_uint_eq(cache(0)->ebx, 0x3f);
    ck_assert_uint_eq(cache(1)->ebx, host_caches[1].ebx);
}
END_TEST

START_TEST(caches_without_an_end)
{
    host.vendor = AMD;
    host.features = TOPOLOGY;
    host.endless = true;
    set_up();
    ck_assert_ptr_nonnull(cache(7));
    ck_assert_ptr_null(cache(8));
}
END_TEST

START_TEST(other_hosts_have_no_such_leaf)
{
    host.vendor = _i ? AMD : INTEL;
    host.features = _i ? 0 : TOPOLOGY;
    set_up();
    ck_assert_ptr_null(cache(0));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("cpuid");
    TCase *tests = tcase_create("cpuid");

    tcase_add_test(tests, caches_of_an_amd_host);
    tcase_add_test(tests, what_kvm_knows_is_kept);
    tcase_add_test(tests, caches_without_an_end);
    tcase_add_loop_test(tests, other_hosts_have_no_such_leaf, 0, 2);
    suite_add_tcase(suite, tests);
    return unit_run(suite);
}
