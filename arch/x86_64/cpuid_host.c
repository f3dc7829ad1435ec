/* SPDX-License-Identifier: MIT */
#include "arch/x86_64/cpuid_host.h"

#include <cpuid.h>
#include <linux/kvm.h>

void cpuid_read_host(struct kvm_cpuid_entry2 *entry)
{
    __cpuid_count(entry->function, entry->index, entry->eax, entry->ebx, entry->ecx, entry->edx);
}
