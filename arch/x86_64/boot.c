/* SPDX-License-Identifier: MIT */
#include "arch/x86_64/boot.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "arch/x86_64/layout.h"
#include "firmware/boot/bzimage.h"
#include "firmware/boot/elf.h"
#include "firmware/boot/file_kind.h"
#include "firmware/boot/pc.h"
#include "firmware/boot/pvh.h"
#include "firmware/boot/vmlinux.h"
#include "firmware/boot/zero_page.h"
#include "firmware/hardware.h"
#include "firmware/image.h"
#include "firmware/tables/acpi.h"
#include "firmware/tables/acpi_registers.h"
#include "vmm/core/base.h"
#include "vmm/core/endian.h"
#include "vmm/core/log.h"
#include "vmm/kvm/arch.h"

#define PAGE_SIZE     0x1000
#define PAGE_ENTRIES  512
#define PAGE_PRESENT  (1u << 0)
#define PAGE_WRITABLE (1u << 1)
#define PAGE_LARGE    (1u << 7)
#define DIRECTORIES   4 /* 1 GiB each: maps the first 4 GiB */

/* Flat descriptors: base 0, limit 4 GiB. */
#define CODE64_DESCRIPTOR 0x00af9b000000ffffull
#define CODE32_DESCRIPTOR 0x00cf9b000000ffffull
#define DATA_DESCRIPTOR   0x00cf93000000ffffull
#define TSS_DESCRIPTOR    0x00008b0000000067ull

struct boot {
    struct guest_memory *mem;
    const struct hardware *hw;
    const struct boot_files *files;
    struct pc_kernel kernel;
    struct setup_header header; /* of a bzImage */
    bool has_header;
    bool la57; /* the kernel begins with five levels of page tables */
    struct pc_boot_data data;
};

static bool boot_has_word(const char *cmdline, const char *word)
{
    size_t length = strlen(word);

    for (const char *at = cmdline; (at = strstr(at, word)); at += length)
        if ((at == cmdline || at[-1] == ' ') && (at[length] == ' ' || !at[length]))
            return true;
    return false;
}

/*
 * Loads a bzImage's kernel that was unpacked before. Its own decompressor, which does not run then,
 * also reads the command line: words that limit memory would decide where the kernel may be, so
 * with them it is left to it.
 */
static int boot_load_unpacked(struct boot *boot)
{
    const struct boot_files *files = boot->files;
    uint64_t initrd_size = files->initrd ? files->initrd->size : 0;
    int error = bzimage_read_header(files->kernel, &boot->header);

    if (error)
        return error;
    if (strstr(files->cmdline, "mem") || strstr(files->cmdline, "hugepage"))
        return -ENOEXEC;
    error = vmlinux_load(files->unpacked, !boot_has_word(files->cmdline, "nokaslr"), initrd_size,
                         boot->mem, boot->hw, &boot->header, &boot->kernel);
    boot->la57 = !error && boot->hw->la57 && (boot->header.xloadflags & XLF_5LEVEL_ENABLED) &&
                 !boot_has_word(files->cmdline, "no5lvl");
    return error;
}

/* Chooses the loader by the file's contents. */
static int boot_load_kernel(struct boot *boot)
{
    const struct image *image = boot->files->kernel;
    uint8_t head[FILE_KIND_HEAD] = { 0 };
    size_t size = image->size < sizeof(head) ? image->size : sizeof(head);
    int error = image_read(image, 0, head, size);

    if (error)
        return error;
    if (elf_match(head))
        return elf_load(image, boot->mem, boot->hw, &boot->kernel);
    if (!bzimage_match(head))
        return file_kind_refuse(image->path, head, "a bzImage or an ELF vmlinux for x86_64");

    boot->has_header = true;
    if (boot->files->unpacked) {
        error = boot_load_unpacked(boot);
        if (error != -ENOEXEC)
            return error;
        log_info("%s unpacks itself", image->path);
    }
    return bzimage_load(image, boot->mem, boot->hw, &boot->kernel, &boot->header);
}

/* Loads it as high as the kernel allows, to leave the kernel room to grow. */
static int boot_load_initrd(struct boot *boot)
{
    const struct image *initrd = boot->files->initrd;
    gpa_t ram_end = pc_ram_end(boot->hw);
    gpa_t top = boot->kernel.initrd_end < ram_end ? boot->kernel.initrd_end : ram_end;
    uint64_t room = top > boot->kernel.end ? align_down(top - boot->kernel.end, PAGE_SIZE) : 0;

    if (!initrd)
        return 0;
    if (initrd->size > room)
        return log_refuse(
            ENOMEM, "%s has %llu KiB, but beside the kernel there is room for %llu; %s",
            initrd->path, (unsigned long long)(initrd->size / KIB),
            (unsigned long long)(room / KIB),
            top == ram_end ? "raise --memory" : "the kernel accepts no larger initrd");

    boot->data.initrd = align_down(top - initrd->size, PAGE_SIZE);
    boot->data.initrd_size = initrd->size;
    return image_load(initrd, 0, initrd->size, boot->mem, boot->data.initrd);
}

/*
 * Linux that must not use kvmclock takes the TSC's frequency from CPUID on Intel's CPUs only.
 * Elsewhere it measures it by a timer, which fails if an exit takes longer than some 15 us, as on a
 * nested KVM; then it has no clock at all and stands still. So its command line says the frequency.
 */
static int boot_write_tsc(struct boot *boot, size_t *ret_size)
{
    const char *cmdline = boot->files->cmdline;
    char text[32] = "";

    if (boot->hw->tsc_khz > 0 && boot_has_word(cmdline, "no-kvmclock") &&
        !strstr(cmdline, "tsc_early_khz="))
        snprintf(text, sizeof(text), "tsc_early_khz=%u ", boot->hw->tsc_khz);
    *ret_size = strlen(text);
    return guest_write(boot->mem, CMDLINE_BASE, text, *ret_size);
}

static int boot_write_cmdline(struct boot *boot)
{
    size_t added, size = strlen(boot->files->cmdline);
    size_t limit = CMDLINE_SIZE - 1;
    int error = boot_write_tsc(boot, &added);

    if (error)
        return error;
    if (boot->kernel.cmdline_size < limit)
        limit = boot->kernel.cmdline_size;
    if (added + size > limit)
        return log_refuse(E2BIG,
                          "the command line has %zu bytes, but %s accepts %zu; shorten --cmdline",
                          added + size, boot->files->kernel->path, limit);

    boot->data.cmdline = CMDLINE_BASE;
    return guest_write(boot->mem, CMDLINE_BASE + added, boot->files->cmdline, size + 1);
}

static int boot_write_params(struct boot *boot)
{
    if (boot->kernel.pvh)
        return pvh_write(boot->mem, BOOT_PARAMS_BASE, boot->hw, &boot->data);
    return zero_page_write(boot->mem, BOOT_PARAMS_BASE, SETUP_DATA_BASE, boot->hw,
                           boot->has_header ? &boot->header : NULL, &boot->data);
}

static int boot_write_gdt(struct boot *boot)
{
    le64 gdt[GDT_SIZE / sizeof(le64)] = { 0 };

    le64_store(&gdt[BOOT_CS / 8], boot->kernel.pvh ? CODE32_DESCRIPTOR : CODE64_DESCRIPTOR);
    le64_store(&gdt[BOOT_DS / 8], DATA_DESCRIPTOR);
    le64_store(&gdt[BOOT_TSS / 8], TSS_DESCRIPTOR);
    return guest_write(boot->mem, GDT_BASE, gdt, sizeof(gdt));
}

/*
 * An identity mapping with 2 MiB pages: PML4, PDPT, page directories and PML5, in this order in
 * memory. PVH starts without paging.
 */
static int boot_write_page_tables(struct boot *boot)
{
    struct {
        le64 pml4[PAGE_ENTRIES], pdpt[PAGE_ENTRIES], pd[DIRECTORIES * PAGE_ENTRIES];
        le64 pml5[PAGE_ENTRIES];
    } *tables = guest_ptr(boot->mem, PAGE_TABLES_BASE, sizeof(*tables));
    gpa_t next = PAGE_TABLES_BASE + PAGE_SIZE;
    const unsigned flags = PAGE_PRESENT | PAGE_WRITABLE;

    if (boot->kernel.pvh)
        return 0;
    if (!tables)
        return -EFAULT;
    le64_store(&tables->pml4[0], next | flags);
    for (unsigned i = 0; i < DIRECTORIES; i++)
        le64_store(&tables->pdpt[i], (next += PAGE_SIZE) | flags);
    for (unsigned i = 0; i < DIRECTORIES * PAGE_ENTRIES; i++)
        le64_store(&tables->pd[i], i * (2 * MIB) | flags | PAGE_LARGE);
    if (boot->la57)
        le64_store(&tables->pml5[0], PAGE_TABLES_BASE | flags);
    return 0;
}

/*
 * On hardware-reduced ACPI without EFI, Linux skips the reset register and in the end jumps to the
 * BIOS's reset vector. This code is our whole BIOS.
 */
static int boot_write_reset_vector(struct boot *boot)
{
    uint16_t port = (uint16_t)(boot->hw->power.base + ACPI_POWER_RESET);
    /* mov dx, port; mov al, value; out dx, al; hlt; jmp to the hlt */
    const uint8_t code[] = {
        0xba, (uint8_t)port, (uint8_t)(port >> 8), 0xb0, ACPI_POWER_RESET_VALUE, 0xee, 0xf4,
        0xeb, 0xfd
    };

    return guest_write(boot->mem, RESET_VECTOR, code, sizeof(code));
}

int boot_load(struct guest_memory *mem, const struct hardware *hw, const struct boot_files *files,
              struct boot_entry *ret_entry)
{
    struct boot boot = { .mem = mem, .hw = hw, .files = files };
    int (*const steps[])(struct boot *) = { boot_load_kernel,       boot_load_initrd,
                                            boot_write_cmdline,     boot_write_params,
                                            boot_write_gdt,         boot_write_page_tables,
                                            boot_write_reset_vector };

    for (unsigned i = 0; i < ARRAY_SIZE(steps); i++) {
        int error = steps[i](&boot);

        if (error)
            return error;
    }
    *ret_entry = (struct boot_entry){
        .protocol = boot.kernel.pvh ? BOOT_PVH : BOOT_LINUX64,
        .rip = boot.kernel.entry,
        .argument = BOOT_PARAMS_BASE,
        .la57 = boot.la57,
        .page_tables = boot.la57 ? PML5_BASE : PAGE_TABLES_BASE,
    };
    return acpi_build(mem, hw);
}
