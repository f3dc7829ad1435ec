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
#define ELF_MAX_NOTES    (16 * KIB) /* of one segment; what lies behind is not looked at */
#define ELF_CMDLINE_SIZE 2047       /* Linux/x86 has always cut the rest off */
#define XEN_NAME         "Xen"      /* with its NUL */
#define XEN_PHYS32_ENTRY 18

#define ELF_USER_PROGRAM "is a program or library of an operating system; name a bzImage or vmlinux"

/* The fields that matter, of either class. */
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

/* What has been found on the way through the segments. */
struct elf_result {
    gpa_t base, end; /* of all segments; end 0: none yet */
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
    int r = image_read(image, 0, &header, sizeof(header));

    if (r < 0)
        return r;
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

static const char *elf_fault(const struct elf_file *elf)
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
        return "is damaged: no program headers where they should be";
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
    int r = image_read(elf->image, offset, &header, elf->segment_size);

    if (r < 0)
        return r;
    if (elf->wide)
        ELF_TAKE_SEGMENT(ret, header.wide);
    else
        ELF_TAKE_SEGMENT(ret, header.narrow);
    return 0;
}

/* RAM is zero already, so what the file does not hold of a segment needs no filling. */
static int elf_load_segment(const struct elf_file *elf, const struct elf_segment *segment,
                            struct guest_memory *mem, const struct hardware *hw,
                            struct elf_result *result)
{
    int r;

    if (segment->size == 0)
        return 0;
    if (segment->file_size > segment->size)
        return log_refuse(EINVAL, "%s is damaged: a segment is larger in the file than in memory",
                          elf->image->path);
    r = pc_check_kernel(hw, elf->image, segment->base, segment->size);
    if (r < 0)
        return r;
    if (segment->base < result->end)
        return log_refuse(EINVAL, "%s is damaged: segments overlap or are out of order",
                          elf->image->path);

    if (result->end == 0)
        result->base = segment->base;
    result->end = segment->base + segment->size;
    return image_load(elf->image, segment->offset, segment->file_size, mem, segment->base);
}

/* The PVH entry if this note has it. Linux writes as many bytes as its pointers have. */
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

/* Every step is at least a header long and is checked against what is left. */
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
    int r = image_read(elf->image, segment->offset, notes, size);

    if (r < 0)
        return r;
    elf_scan_notes(notes, size, segment->align == 8 ? 8 : 4, result);
    return 0;
}

static int elf_load_segments(const struct elf_file *elf, struct guest_memory *mem,
                             const struct hardware *hw, struct elf_result *result)
{
    for (unsigned i = 0; i < elf->segments; i++) {
        struct elf_segment segment;
        int r = elf_read_segment(elf, i, &segment);

        if (r == 0 && segment.type == PT_LOAD)
            r = elf_load_segment(elf, &segment, mem, hw, result);
        else if (r == 0 && segment.type == PT_NOTE)
            r = elf_read_notes(elf, &segment, result);
        else if (r == 0 && (segment.type == PT_INTERP || segment.type == PT_TLS))
            r = log_refuse(EINVAL, "%s " ELF_USER_PROGRAM, elf->image->path);
        if (r < 0)
            return r;
    }
    return 0;
}

int elf_load(const struct image *image, struct guest_memory *mem, const struct hardware *hw,
             struct pc_kernel *ret_kernel)
{
    struct elf_result result = { 0 };
    struct elf_file elf;
    const char *fault;
    gpa_t entry;
    int r = elf_read_header(&elf, image);

    if (r < 0)
        return r;
    fault = elf_fault(&elf);
    if (fault)
        return log_refuse(EINVAL, "%s %s", image->path, fault);
    r = elf_load_segments(&elf, mem, hw, &result);
    if (r < 0)
        return r;

    if (!elf.wide && !result.has_pvh)
        return log_refuse(EINVAL, "%s is a 32-bit kernel without a PVH entry; name one for x86_64",
                          image->path);
    entry = result.has_pvh ? result.pvh_entry : elf.entry;
    if (entry < result.base || entry >= result.end)
        return log_refuse(EINVAL, "%s is damaged or no kernel: its entry %#llx is not in memory",
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
