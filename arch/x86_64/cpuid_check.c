/* SPDX-License-Identifier: MIT */
#include "arch/x86_64/cpuid_check.h"

#include <linux/kvm.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "arch/x86_64/cpuid.h"
#include "vmm/core/base.h"
#include "vmm/core/state.h"

#define LEAF_ADDRESSES 0x80000008u /* EAX, bits 0 to 7: width of a physical address */
#define LEAF_XSAVE     0xdu
#define XSAVE_FIRST    2u /* sub-leaf of the first component that has a place of its own */
#define XSAVE_END      63u

enum cpuid_register { EAX, EBX, ECX, EDX };

/*
 * 32 features each, from bit 0 on, named as in /proc/cpuinfo. "-" has no name there. "*" is no
 * feature: part of a number, or as the guest sets CR4.
 */
static const struct cpuid_features {
    uint32_t function, index;
    enum cpuid_register reg;
    const char *names;
} cpuid_features[] = {
    { 0x1, 0, EDX,
      "fpu vme de pse tsc msr pae mce cx8 apic - sep mtrr pge mca cmov "
      "pat pse36 pn clflush - dts acpi mmx fxsr sse sse2 ss ht tm ia64 pbe" },
    { 0x1, 0, ECX,
      "pni pclmulqdq dtes64 monitor ds_cpl vmx smx est tm2 ssse3 cid sdbg fma cx16 xtpr pdcm "
      "- pcid dca sse4_1 sse4_2 x2apic movbe popcnt tsc_deadline_timer aes xsave * avx f16c rdrand "
      "hypervisor" },
    { 0x7, 0, EBX,
      "fsgsbase tsc_adjust sgx bmi1 hle avx2 - smep bmi2 erms invpcid rtm cqm - mpx rdt_a "
      "avx512f avx512dq rdseed adx smap avx512ifma - clflushopt clwb intel_pt avx512pf avx512er "
      "avx512cd sha_ni avx512bw avx512vl" },
    { 0x7, 0, ECX,
      "- avx512vbmi umip pku * waitpkg avx512_vbmi2 shstk gfni vaes vpclmulqdq avx512_vnni "
      "avx512_bitalg tme avx512_vpopcntdq - la57 * * * * * rdpid - bus_lock_detect cldemote - "
      "movdiri movdir64b enqcmd sgx_lc pks" },
    { 0x7, 0, EDX,
      "- - avx512_4vnniw avx512_4fmaps fsrm - - - avx512_vp2intersect - md_clear - - - serialize - "
      "tsxldtrk - pconfig arch_lbr ibt - amx_bf16 avx512_fp16 amx_tile amx_int8 spec_ctrl "
      "intel_stibp flush_l1d arch_capabilities - spec_ctrl_ssbd" },
    { 0x7, 1, EAX,
      "sha512 sm3 sm4 - avx_vnni avx512_bf16 lass cmpccxadd - - fzrm fsrs fsrc - - - "
      "- fred lkgs - - amx_fp16 hreset avx_ifma - - lam - - - - -" },
    { 0x7, 1, EDX,
      "- - - - avx_vnni_int8 avx_ne_convert - - amx_complex - avx_vnni_int16 - - - prefetchi - "
      "- - - avx10 - - - - - - - - - - - -" },
    { 0x7, 2, EDX,
      "intel_psfd ipred_ctrl rrsba_ctrl - bhi_ctrl mcdt_no - - - - - - - - - - "
      "- - - - - - - - - - - - - - - -" },
    { 0xd, 1, EAX,
      "xsaveopt xsavec xgetbv1 xsaves xfd - - - - - - - - - - - "
      "- - - - - - - - - - - - - - - -" },
    { 0x80000001, 0, EDX,
      "- - - - - - - - - - - syscall - - - - "
      "- - - mp nx - mmxext - - fxsr_opt pdpe1gb rdtscp - lm 3dnowext 3dnow" },
    { 0x80000001, 0, ECX,
      "lahf_lm cmp_legacy svm extapic cr8_legacy abm sse4a misalignsse 3dnowprefetch osvw ibs xop "
      "skinit wdt - lwp fma4 tce - nodeid_msr - tbm topoext perfctr_core perfctr_nb - bpext ptsc "
      "perfctr_llc mwaitx - -" },
    { 0x80000007, 0, EDX,
      "- - - - - - - - constant_tsc - - - - - - - "
      "- - - - - - - - - - - - - - - -" },
    { 0x80000008, 0, EBX,
      "clzero irperf xsaveerptr - rdpru - - - - wbnoinvd - - amd_ibpb - amd_ibrs amd_stibp "
      "- amd_stibp_always_on - - - - - amd_ppin amd_ssbd virt_ssbd amd_ssb_no cppc amd_psfd btc_no "
      "amd_ibpb_ret -" },
    { 0x80000021, 0, EAX,
      "no_nested_data_bp - lfence_rdtsc - - - null_sel_clr_base - autoibrs no_smm_ctl_msr - - - - "
      "- "
      "- - - - - prefetchi - - - - - - sbpb ibpb_brtype srso_no - -" },
    { 0x40000001, 0, EAX,
      "kvmclock kvm_nopiodelay kvm_mmu kvmclock2 kvm_asyncpf kvm_steal_time kvm_pv_eoi "
      "kvm_pv_unhalt - kvm_pv_tlb_flush kvm_asyncpf_vmexit kvm_pv_send_ipi kvm_poll_control "
      "kvm_pv_sched_yield kvm_asyncpf_int kvm_msi_ext_dest_id kvm_hc_map_gpa_range "
      "kvm_migration_control - - - - - - kvmclock_stable - - - - - - -" },
};

/* Names for a message; those that have no room are counted. */
struct cpuid_missing {
    char text[96];
    size_t used;
    unsigned more;
};

static uint32_t cpuid_word(struct kvm_cpuid2 *cpuid, const struct cpuid_features *f)
{
    const struct kvm_cpuid_entry2 *entry = cpuid_find(cpuid, f->function, f->index);

    if (!entry)
        return 0;
    switch (f->reg) {
    case EAX:
        return entry->eax;
    case EBX:
        return entry->ebx;
    case ECX:
        return entry->ecx;
    default:
        return entry->edx;
    }
}

/* The name of a bit, which is `*ret_length` long. */
static const char *cpuid_feature_name(const struct cpuid_features *f, unsigned bit, int *ret_length)
{
    const char *name = f->names;

    while (bit-- > 0)
        name += strcspn(name, " ") + 1;
    *ret_length = (int)strcspn(name, " ");
    return name;
}

static void cpuid_add_name(struct cpuid_missing *missing, const struct cpuid_features *f,
                           unsigned bit)
{
    static const char *const registers[] = { "EAX", "EBX", "ECX", "EDX" };
    const char *comma = missing->used ? ", " : "";
    size_t room = sizeof(missing->text) - missing->used;
    char *text = missing->text + missing->used;
    int length, written;
    const char *name = cpuid_feature_name(f, bit, &length);

    if (*name == '*')
        return;
    if (*name == '-')
        written = snprintf(text, room, "%sCPUID %#x.%u %s bit %u", comma, f->function, f->index,
                           registers[f->reg], bit);
    else
        written = snprintf(text, room, "%s%.*s", comma, length, name);
    if (missing->more || written < 0 || (size_t)written >= room) {
        *text = '\0';
        missing->more++;
    } else {
        missing->used += (size_t)written;
    }
}

static void cpuid_check_features(struct kvm_cpuid2 *shown, struct kvm_cpuid2 *here, struct state *s)
{
    struct cpuid_missing missing = { .used = 0 };
    char more[32] = "";

    for (unsigned i = 0; i < ARRAY_SIZE(cpuid_features); i++) {
        const struct cpuid_features *f = &cpuid_features[i];
        uint32_t lacking = cpuid_word(shown, f) & ~cpuid_word(here, f);

        for (unsigned bit = 0; bit < 32; bit++)
            if (lacking & BIT(bit))
                cpuid_add_name(&missing, f, bit);
    }
    if (missing.more)
        snprintf(more, sizeof(more), " and %u more", missing.more);
    if (missing.used)
        state_fail(s, "the host lacks %s%s, which the guest uses", missing.text, more);
}

static void cpuid_vendor(struct kvm_cpuid2 *cpuid, char text[static 13])
{
    const struct kvm_cpuid_entry2 *entry = cpuid_find(cpuid, 0, 0);
    const uint32_t words[] = { entry ? entry->ebx : 0, entry ? entry->edx : 0,
                               entry ? entry->ecx : 0 };

    memcpy(text, words, sizeof(words));
    text[sizeof(words)] = '\0';
    for (char *at = text; *at; at++)
        if (*at < ' ' || *at >= 0x7f)
            *at = '?';
}

/* Of the components that the guest may save: size and place are the CPU's. */
static bool cpuid_same_xsave(struct kvm_cpuid2 *shown, struct kvm_cpuid2 *here)
{
    for (uint32_t index = XSAVE_FIRST; index < XSAVE_END; index++) {
        const struct kvm_cpuid_entry2 *was = cpuid_find(shown, LEAF_XSAVE, index);
        const struct kvm_cpuid_entry2 *is = cpuid_find(here, LEAF_XSAVE, index);

        if (was && was->eax && (!is || was->eax != is->eax || was->ebx != is->ebx))
            return false;
    }
    return true;
}

void cpuid_check(struct kvm_cpuid2 *shown, struct kvm_cpuid2 *here, struct state *s)
{
    const struct cpuid_features addresses = { LEAF_ADDRESSES, 0, EAX, NULL };
    uint32_t width_shown = cpuid_word(shown, &addresses) & 0xff;
    uint32_t width_here = cpuid_word(here, &addresses) & 0xff;
    char vendor_shown[13], vendor_here[13];

    cpuid_vendor(shown, vendor_shown);
    cpuid_vendor(here, vendor_here);
    if (strcmp(vendor_shown, vendor_here) != 0)
        state_fail(s, "the host's CPU is of %s, and the guest was started on one of %s",
                   vendor_here, vendor_shown);
    cpuid_check_features(shown, here, s);
    if (!cpuid_same_xsave(shown, here))
        state_fail(s, "the host's CPU saves its registers in another form than the guest uses");
    if (width_shown > width_here)
        state_fail(s, "the host has %u bits of physical addresses, and the guest uses %u",
                   width_here, width_shown);
}
