/* SPDX-License-Identifier: MIT */
#include "firmware/boot/vmlinux.h"

#include <elf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "firmware/hardware.h"
#include "firmware/image.h"
#include "vmm/core/base.h"
#include "vmm/core/cleanup.h"
#include "vmm/core/log.h"

/*
 * The relocations (Linux: arch/x86/tools/relocs.c) are 32-bit numbers, each the virtual address of
 * a word in the kernel. They come in lists, each begun by a zero: words of 64 bits, to which the
 * offset is added, before Linux 6.15 words of 32 bits from which it is subtracted, and words of 32
 * bits to which it is added.
 */
#define KERNEL_MAP \
    0xffffffff80000000ull         /* the virtual address of physical 0 (__START_KERNEL_map) */
#define KERNEL_SPACE    (1 * GIB) /* above it (KERNEL_IMAGE_SIZE) */
#define MAX_SEGMENTS    16
#define MAX_RELOCS      (8u << 20)
#define MAX_LISTS       3
#define MIN_ALIGN       (2 * MIB)
#define NOT_AS_EXPECTED (-ENOEXEC)

struct vmlinux {
    const struct image *image;
    uint64_t base, size; /* physical, as linked; with its BSS and what it needs at first */
    uint64_t entry;      /* from base */
    Elf64_Phdr loads[MAX_SEGMENTS];
    unsigned load_count;
    int32_t *relocs;
    size_t reloc_count; /* with the zeros */
};

/* Where it is to be. */
struct vmlinux_place {
    gpa_t base;      /* physical */
    uint64_t offset; /* of virtual addresses */
};

static int vmlinux_read_segment(struct vmlinux *v, uint64_t at)
{
    Elf64_Phdr segment;

    if (image_read(v->image, at, &segment, sizeof(segment)))
        return NOT_AS_EXPECTED;
    if (segment.p_type != PT_LOAD || segment.p_memsz == 0)
        return 0;
    if (v->load_count == MAX_SEGMENTS || segment.p_filesz > segment.p_memsz ||
        segment.p_offset > v->image->size || segment.p_filesz > v->image->size - segment.p_offset ||
        segment.p_paddr < v->base || segment.p_paddr - v->base > v->size ||
        segment.p_memsz > v->size - (segment.p_paddr - v->base))
        return NOT_AS_EXPECTED;
    v->loads[v->load_count++] = segment;
    return 0;
}

/* The section headers are the last part of the ELF file: the relocations begin at *ret_end. */
static int vmlinux_read_elf(struct vmlinux *v, uint64_t *ret_end)
{
    Elf64_Ehdr elf;
    uint64_t size = v->image->size;
    int error = 0;

    if (size < sizeof(elf) || image_read(v->image, 0, &elf, sizeof(elf)) ||
        memcmp(elf.e_ident, ELFMAG, SELFMAG) || elf.e_ident[EI_CLASS] != ELFCLASS64 ||
        elf.e_machine != EM_X86_64 || elf.e_type != ET_EXEC ||
        elf.e_phentsize != sizeof(Elf64_Phdr) || elf.e_phnum > 2 * MAX_SEGMENTS ||
        elf.e_phoff > size || elf.e_phnum * sizeof(Elf64_Phdr) > size - elf.e_phoff ||
        elf.e_shoff > size || (uint64_t)elf.e_shnum * elf.e_shentsize > size - elf.e_shoff ||
        elf.e_entry < v->base || elf.e_entry - v->base >= v->size)
        return NOT_AS_EXPECTED;
    v->entry = elf.e_entry - v->base;
    for (unsigned i = 0; i < elf.e_phnum && !error; i++)
        error = vmlinux_read_segment(v, elf.e_phoff + i * sizeof(Elf64_Phdr));
    *ret_end = elf.e_shoff + (uint64_t)elf.e_shnum * elf.e_shentsize;
    return error || v->load_count > 0 ? error : NOT_AS_EXPECTED;
}

/* The offset from v->base of the word that a relocation is for; SIZE_MAX: not in the kernel. */
static size_t vmlinux_target(const struct vmlinux *v, int32_t reloc)
{
    uint64_t offset = (uint64_t)(int64_t)reloc - KERNEL_MAP - v->base;

    return offset <= v->size - sizeof(uint64_t) ? offset : SIZE_MAX;
}

static int vmlinux_check_relocs(const struct vmlinux *v)
{
    unsigned lists = 0;

    if (v->relocs[0] != 0)
        return NOT_AS_EXPECTED;
    for (size_t i = 0; i < v->reloc_count; i++) {
        lists += v->relocs[i] == 0;
        if (v->relocs[i] != 0 && vmlinux_target(v, v->relocs[i]) == SIZE_MAX)
            return NOT_AS_EXPECTED;
    }
    return lists == MAX_LISTS || lists == MAX_LISTS - 1 ? 0 : NOT_AS_EXPECTED;
}

static int vmlinux_read_relocs(struct vmlinux *v, uint64_t begin)
{
    uint64_t size = v->image->size - begin;

    v->reloc_count = size / sizeof(*v->relocs);
    if (size % sizeof(*v->relocs) || v->reloc_count < MAX_LISTS || v->reloc_count > MAX_RELOCS)
        return NOT_AS_EXPECTED;
    v->relocs = malloc(size);
    if (!v->relocs || image_read(v->image, begin, v->relocs, size))
        return NOT_AS_EXPECTED;
    return vmlinux_check_relocs(v);
}

/* A multiple of `align` from `low` on, at most `high`. */
static int vmlinux_choose(uint64_t *ret, uint64_t low, uint64_t high, uint64_t align)
{
    uint64_t bits;

    if (getrandom(&bits, sizeof(bits), 0) != sizeof(bits))
        return log_error(errno, "get random bytes");
    *ret = low + bits % ((high - low) / align + 1) * align;
    return 0;
}

static int vmlinux_place(const struct vmlinux *v, gpa_t ram_end, uint64_t align,
                         struct vmlinux_place *ret)
{
    uint64_t virtual = 0;
    int error;

    if (ram_end < v->base || v->size > ram_end - v->base || v->base > KERNEL_SPACE ||
        v->size > KERNEL_SPACE - v->base)
        return NOT_AS_EXPECTED;
    error = vmlinux_choose(&ret->base, v->base, ram_end - v->size, align);
    if (!error)
        error = vmlinux_choose(&virtual, v->base, KERNEL_SPACE - v->size, align);
    ret->offset = virtual - v->base;
    return error;
}

/* RAM is zero already, so a segment's BSS needs no clearing. */
static int vmlinux_load_segments(const struct vmlinux *v, struct guest_memory *mem, gpa_t base)
{
    int error = 0;

    for (unsigned i = 0; i < v->load_count && !error; i++)
        error = image_load(v->image, v->loads[i].p_offset, v->loads[i].p_filesz, mem,
                           base + (v->loads[i].p_paddr - v->base));
    return error;
}

static void vmlinux_add32(uint8_t *at, uint32_t offset)
{
    uint32_t word;

    memcpy(&word, at, sizeof(word));
    word += offset;
    memcpy(at, &word, sizeof(word));
}

static void vmlinux_add64(uint8_t *at, uint64_t offset)
{
    uint64_t word;

    memcpy(&word, at, sizeof(word));
    word += offset;
    memcpy(at, &word, sizeof(word));
}

/* From the end: additions to 32 bits, perhaps subtractions, additions to 64 bits. */
static void vmlinux_relocate(const struct vmlinux *v, uint8_t *kernel, uint64_t offset)
{
    size_t i = v->reloc_count, first64 = 1;

    while (v->relocs[first64] != 0)
        first64++; /* the end of the list of 64-bit words */
    while (v->relocs[--i] != 0)
        vmlinux_add32(kernel + vmlinux_target(v, v->relocs[i]), (uint32_t)offset);
    if (i > first64)
        while (v->relocs[--i] != 0)
            vmlinux_add32(kernel + vmlinux_target(v, v->relocs[i]), 0u - (uint32_t)offset);
    while (v->relocs[--i] != 0)
        vmlinux_add64(kernel + vmlinux_target(v, v->relocs[i]), offset);
}

static int vmlinux_put(struct vmlinux *v, const struct vmlinux_place *place,
                       struct guest_memory *mem)
{
    uint8_t *kernel = guest_ptr(mem, place->base, v->size);
    int error;

    if (!kernel)
        return NOT_AS_EXPECTED;
    error = vmlinux_load_segments(v, mem, place->base);
    if (!error && place->offset)
        vmlinux_relocate(v, kernel, place->offset);
    return error;
}

/* The highest end of the kernel: the initrd, which lies as high as it can, comes after it. */
static gpa_t vmlinux_ram_end(const struct hardware *hw, const struct setup_header *header,
                             uint64_t initrd_size)
{
    gpa_t end = pc_ram_end(hw);

    if (header->initrd_addr_max + 1ull < end)
        end = header->initrd_addr_max + 1ull;
    return end > initrd_size ? align_down(end - initrd_size, MIN_ALIGN) : 0;
}

int vmlinux_load(const struct image *unpacked, bool randomize, uint64_t initrd_size,
                 struct guest_memory *mem, const struct hardware *hw, struct setup_header *header,
                 struct pc_kernel *ret_kernel)
{
    struct vmlinux v = { .image = unpacked,
                         .base = header->pref_address,
                         .size = header->init_size };
    gpa_t ram_end = vmlinux_ram_end(hw, header, initrd_size);
    uint64_t align = header->kernel_alignment, relocs;
    struct vmlinux_place place = { .base = v.base };
    int error;

    if (align < MIN_ALIGN || (align & (align - 1)) || v.base < MIN_ALIGN || v.base % align ||
        v.size < MIN_ALIGN || v.base > UINT32_MAX)
        return NOT_AS_EXPECTED;
    error = vmlinux_read_elf(&v, &relocs);
    if (!error && randomize && !(error = vmlinux_read_relocs(&v, relocs)))
        error = vmlinux_place(&v, ram_end, align, &place);
    if (!error)
        error = vmlinux_put(&v, &place, mem);
    free(v.relocs);
    if (error)
        return error;

    if (randomize)
        header->loadflags |= KASLR_FLAG;
    *ret_kernel = (struct pc_kernel){
        .entry = place.base + v.entry,
        .end = place.base + v.size,
        .initrd_end = header->initrd_addr_max + 1ull,
        .cmdline_size = header->cmdline_size,
    };
    return 0;
}
