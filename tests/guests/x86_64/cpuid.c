/* SPDX-License-Identifier: MIT */

/*
 * The CPUID leaves from which Linux takes clock frequencies instead of calibrating, the CPU's name,
 * and AMD's caches.
 */
#include "lib/guest.h"
#include "x86_64/x86.h"

#define HYPERVISOR (1u << 31)
#define X2APIC     (1u << 21)
#define VMX        (1u << 5)
#define PDCM       (1u << 15)

/* Leaf 0x80000001, ECX. */
#define SVM          (1u << 2)
#define AMD_COUNTERS (1u << 23 | 1u << 24 | 1u << 28)

static void check_signature(void)
{
    struct cpuid kvm = cpuid(0x40000000, 0);

    expect_equal(kvm.ebx, 0x4b4d564b); /* "KVMK" */
    expect_equal(kvm.ecx, 0x564b4d56); /* "VMKV" */
    expect_equal(kvm.edx, 0x4d);       /* "M" */
    expect(kvm.eax >= 0x40000010);
}

/* The frequencies of TSC and local APIC timer are plausible and consistent. */
static void check_frequencies(void)
{
    struct cpuid clocks = cpuid(0x40000010, 0);

    expect(clocks.eax >= 100000 && clocks.eax <= 10000000);
    expect_equal(clocks.ebx, 1000000);
    print("tsc %u kHz\n", clocks.eax);
    if (cpuid(0, 0).eax >= 0x15) {
        struct cpuid crystal = cpuid(0x15, 0);

        expect(crystal.eax);
        expect_equal((uint64_t)crystal.ecx / 1000 * crystal.ebx / crystal.eax, clocks.eax);
    }
}

static void print_name(void)
{
    union {
        struct cpuid leaves[3];
        char text[48];
    } name;

    expect(cpuid(0x80000000, 0).eax >= 0x80000004);
    for (unsigned i = 0; i < 3; i++)
        name.leaves[i] = cpuid(0x80000002 + i, 0);
    name.text[47] = '\0';
    print("name %s\n", name.text);
}

/* Each sub-leaf is a cache: type and level in EAX, sets in ECX. Its size, as Linux computes it. */
static void print_amd_caches(void)
{
    if (cpuid(0, 0).ebx != 0x68747541 || !(cpuid(0x80000001, 0).ecx & 1u << 22))
        return;
    expect(cpuid(0x80000005, 0).ecx != 0);
    for (uint32_t i = 0; cpuid(0x8000001d, i).eax & 0x1f; i++) {
        struct cpuid cache = cpuid(0x8000001d, i);
        uint32_t ways = (cache.ebx >> 22) + 1, line = (cache.ebx & 0xfff) + 1;

        print("cache L%u type %u: %u KiB\n", cache.eax >> 5 & 7, cache.eax & 0x1f,
              ways * line * (cache.ecx + 1) / 1024);
    }
}

/* Virtualization and performance counters: only what was asked for. */
static void check_asked(void)
{
    const char *asked = platform_cmdline();
    bool nested = cpuid(1, 0).ecx & VMX || cpuid(0x80000001, 0).ecx & SVM;
    uint32_t last = cpuid(0x80000000, 0).eax;

    expect_equal(nested, *asked == 'n');
    if (!nested && last >= 0x8000000a)
        expect_equal(cpuid(0x8000000a, 0).edx, 0);
    if (*asked)
        return;
    expect_equal(cpuid(0xa, 0).eax, 0);
    expect_equal(cpuid(1, 0).ecx & PDCM, 0);
    expect_equal(cpuid(0x80000001, 0).ecx & AMD_COUNTERS, 0);
    if (last >= 0x80000022)
        expect_equal(cpuid(0x80000022, 0).eax, 0);
}

int main(void)
{
    struct cpuid features = cpuid(1, 0);

    expect(features.ecx & HYPERVISOR);
    expect(features.ecx & X2APIC);
    check_asked();
    check_signature();
    check_frequencies();
    print_name();
    print_amd_caches();
    return 0;
}
