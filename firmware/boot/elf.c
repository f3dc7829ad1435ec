/* SPDX-License-Identifier: MIT */
#include "firmware/boot/elf.h"

#include <elf.h>
#include <errno.h>
#include <string.h>

#include "firmware/hardware.h"
#include "firmware/image.h"
#include "vmm/core/base.h"
#include "vmm/core/log.h"

#define ELF_MAX_SEGMENTS 128        /* kernels have a handful */
#define ELF_MAX_NOTES    (16 * KIB) /* bytes of a segment; the rest is ignored */
#define ELF_CMDLINE_SIZE 2047       /* COMMAND_LINE_SIZE of Linux/x86, less the NUL */
#define XEN_NAME         "Xen"      /* a note's name includes the NUL */
#define XEN_PHYS32_ENTRY 18

#define ELF_USER_PROGRAM "is a program or library of an operating system; name a bzImage or vmlinux"

/* The header fields used here, from ELF32 or ELF64. */
struct elf_file {
    const struct image *image;
    bool wide; /* ELF64 */
    unsigned type, machine;
    unsigned segments, segment_size;
    uint64_t entry;
    uint64_t segment_table; /* file offset, inside the file */
};

struct elf_segment {
    unsigned type;
    uint64_t offset, base; /* in the file; in memory */
    uint64_t file_size, size;
    uint64_t align;
};

/* Collected while the segments are read. */
struct elf_result {
    gpa_t base, end; /* span of the segments loaded so far; end 0: none */
    bool has_pvh;
    gpa_t pvh_entry;
};

bool elf_match(const uint8_t *head)
{
    return !memcmp(head, ELFMAG, SELFMAG);
}

#define ELF_TAKE_HEADER(elf, header)                \
    do {                                            \
        (elf)->type = (header).e_type;              \
        (elf)->machine = (header).e_machine;        \
        (elf)->segments = (header).e_phnum;         \
        (elf)->segment_size = (header).e_phentsize; \
        (elf)->entry = (header).e_entry;            \
        (elf)->segment_table = (header).e_phoff;    \
    } while (0)

static int elf_read_header(struct elf_file *elf, const struct image *image)
{
    union {
        unsigned char ident[EI_NIDENT];
        Elf32_Ehdr narrow;
        Elf64_Ehdr wide;
    } header;
    int error = image_read(image, 0, &header, sizeof(header));

    if (error)
        return error;
    *elf = (struct elf_file){ .image = image, .wide = header.ident[EI_CLASS] == ELFCLASS64 };
    if (header.ident[EI_DATA] != ELFDATA2LSB)
        return log_refuse(EINVAL, "%s is a big-endian program; name a kernel for x86_64",
                          image->path);
    if (elf->wide)
        ELF_TAKE_HEADER(elf, header.wide);
    else
        ELF_TAKE_HEADER(elf, header.narrow);
    return 0;
}

/* What is wrong with the file, as the end of a message; NULL: nothing. */
static const char *elf_check(const struct elf_file *elf)
{
    if (elf->machine == EM_AARCH64)
        return "is an arm64 program; name a kernel for x86_64";
    if (elf->machine != (elf->wide ? EM_X86_64 : EM_386))
        return "is a program for another architecture; name a kernel for x86_64";
    if (elf->type == ET_REL)
        return "is an object file or kernel module; name a bzImage or vmlinux";
    if (elf->type != ET_EXEC)
        return ELF_USER_PROGRAM;
    if (elf->segments > ELF_MAX_SEGMENTS)
        return "is damaged: more program headers than any kernel has";
    if (elf->segment_size != (elf->wide ? sizeof(Elf64_Phdr) : sizeof(Elf32_Phdr)) ||
        elf->segment_table > elf->image->size)
        return "is damaged: its program headers are missing";
    return NULL;
}

#define ELF_TAKE_SEGMENT(segment, header)         \
    do {                                          \
        (segment)->type = (header).p_type;        \
        (segment)->offset = (header).p_offset;    \
        (segment)->base = (header).p_paddr;       \
        (segment)->file_size = (header).p_filesz; \
        (segment)->size = (header).p_memsz;       \
        (segment)->align = (header).p_align;      \
    } while (0)

static int elf_read_segment(const struct elf_file *elf, unsigned index, struct elf_segment *ret)
{
    union {
        Elf32_Phdr narrow;
        Elf64_Phdr wide;
    } header;
    uint64_t offset = elf->segment_table + (uint64_t)index * elf->segment_size;
    int error = image_read(elf->image, offset, &header, elf->segment_size);

    if (error)
        return error;
    if (elf->wide)
        ELF_TAKE_SEGMENT(ret, header.wide);
    else
        ELF_TAKE_SEGMENT(ret, header.narrow);
    return 0;
}

/* RAM is zero already, so a segment's BSS needs no clearing. */
static int elf_load_segment(const struct elf_file *elf, const struct elf_segment *segment,
                            struct guest_memory *mem, const struct hardware *hw,
                            struct elf_result *result)
{
    int error;

    if (segment->size == 0)
        return 0;
    if (segment->file_size > segment->size)
        return log_refuse(EINVAL, "%s is damaged: a segment is larger in the file than in memory",
                          elf->image->path);
    error = pc_check_kernel(hw, elf->image, segment->base, segment->size);
    if (error)
        return error;
    if (segment->base < result->end)
        return log_refuse(EINVAL, "%s is damaged: segments overlap or are out of order",
                          elf->image->path);

    if (result->end == 0)
        result->base = segment->base;
    result->end = segment->base + segment->size;
    return image_load(elf->image, segment->offset, segment->file_size, mem, segment->base);
}

/* Takes the PVH entry if this note has it: 4 bytes in 32-bit kernels, 8 in 64-bit ones. */
static void elf_take_note(const Elf64_Nhdr *note, const uint8_t *name, const uint8_t *value,
                          struct elf_result *result)
{
    if (note->n_type != XEN_PHYS32_ENTRY || note->n_namesz != sizeof(XEN_NAME) ||
        memcmp(name, XEN_NAME, sizeof(XEN_NAME)) ||
        (note->n_descsz != sizeof(uint32_t) && note->n_descsz != sizeof(uint64_t)))
        return;
    result->has_pvh = true;
    result->pvh_entry = 0;
    memcpy(&result->pvh_entry, value, note->n_descsz);
}

/* Each step is at least a header long, and checked against the bytes left. */
static void elf_scan_notes(const uint8_t *notes, size_t left, unsigned align,
                           struct elf_result *result)
{
    while (left >= sizeof(Elf64_Nhdr)) {
        Elf64_Nhdr note;
        uint64_t name_size, value_size, step;

        memcpy(&note, notes, sizeof(note));
        name_size = align_up(sizeof(note) + note.n_namesz, align) - sizeof(note);
        if (name_size > left - sizeof(note))
            return;
        value_size = note.n_descsz;
        if (value_size > left - sizeof(note) - name_size)
            return;

        elf_take_note(&note, notes + sizeof(note), notes + sizeof(note) + name_size, result);
        step = sizeof(note) + name_size + align_up(value_size, align);
        if (step > left)
            return;
        notes += step;
        left -= step;
    }
}

static int elf_read_notes(const struct elf_file *elf, const struct elf_segment *segment,
                          struct elf_result *result)
{
    uint8_t notes[ELF_MAX_NOTES];
    size_t size = segment->file_size < sizeof(notes) ? segment->file_size : sizeof(notes);
    int error = image_read(elf->image, segment->offset, notes, size);

    if (error)
        return error;
    elf_scan_notes(notes, size, segment->align == 8 ? 8 : 4, result);
    return 0;
}

static int elf_load_segments(const struct elf_file *elf, struct guest_memory *mem,
                             const struct hardware *hw, struct elf_result *result)
{
    for (unsigned i = 0; i < elf->segments; i++) {
        struct elf_segment segment;
        int error = elf_read_segment(elf, i, &segment);

        if (!error && segment.type == PT_LOAD)
            error = elf_load_segment(elf, &segment, mem, hw, result);
        else if (!error && segment.type == PT_NOTE)
            error = elf_read_notes(elf, &segment, result);
        else if (!error && (segment.type == PT_INTERP || segment.type == PT_TLS))
            error = log_refuse(EINVAL, "%s " ELF_USER_PROGRAM, elf->image->path);
        if (error)
            return error;
    }
    return 0;
}

int elf_load(const struct image *image, struct guest_memory *mem, const struct hardware *hw,
             struct pc_kernel *ret_kernel)
{
    struct elf_result result = { 0 };
    struct elf_file elf;
    const char *problem;
    gpa_t entry;
    int error = elf_read_header(&elf, image);

    if (error)
        return error;
    problem = elf_check(&elf);
    if (problem)
        return log_refuse(EINVAL, "%s %s", image->path, problem);
    error = elf_load_segments(&elf, mem, hw, &result);
    if (error)
        return error;

    if (!elf.wide && !result.has_pvh)
        return log_refuse(EINVAL, "%s is a 32-bit kernel without a PVH entry; name one for x86_64",
                          image->path);
    entry = result.has_pvh ? result.pvh_entry : elf.entry;
    if (entry < result.base || entry >= result.end)
        return log_refuse(EINVAL,
                          "%s is damaged or not a kernel: no segment holds its entry point %#llx",
                          image->path, (unsigned long long)entry);

    *ret_kernel = (struct pc_kernel){
        .pvh = result.has_pvh,
        .entry = entry,
        .end = result.end,
        .initrd_end = pc_ram_end(hw),
        .cmdline_size = ELF_CMDLINE_SIZE,
    };
    return 0;
}
