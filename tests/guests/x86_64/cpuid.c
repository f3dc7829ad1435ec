/* SPDX-License-Identifier: MIT */

/* The CPUID leaves from which Linux takes clock frequencies instead of calibrating. */
#include "lib/guest.h"
#include "x86_64/x86.h"

#define HYPERVISOR (1u << 31)
#define X2APIC     (1u << 21)

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

int main(void)
{
    struct cpuid features = cpuid(1, 0);

    expect(features.ecx & HYPERVISOR);
    expect(features.ecx & X2APIC);
    check_signature();
    check_frequencies();
    return 0;
}
