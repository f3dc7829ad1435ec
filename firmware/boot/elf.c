/* SPDX-License-Identifier: MIT */
#include "firmware/boot/elf.h"

#include <elf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "firmware/hardware.h"
#include "firmware/image.h"
#include "vmm/core/base.h"
#include "vmm/core/cleanup.h"
#include "vmm/core/log.h"

#define ELF_MAX_SEGMENTS 128       /* kernels have a handful */
#define ELF_MAX_NOTES    (1 * MIB) /* bytes of a segment; kernels have less than 1 KiB */
#define ELF_CMDLINE_SIZE 2047      /* COMMAND_LINE_SIZE of Linux/x86, less the NUL */
#define XEN_NAME         "Xen"     /* a note's name includes the NUL */
#define XEN_PHYS32_ENTRY 18

#define ELF_USER_PROGRAM "is a program or library of an operating system; name a bzImage or vmlinux"
#define ELF_BSD_KERNEL \
    "is a kernel or program of BSD without a PVH entry point; name a kernel that has one"
#define ELF_MULTIBOOT                                                                     \
    "is a Multiboot kernel without a PVH entry point; add an ELF note with one (of Xen, " \
    "PHYS32_ENTRY)"

struct elf_segment {
    unsigned type;
    uint64_t offset, base; /* in the file; in memory */
    uint64_t file_size, size;
    uint64_t align;
};

/* What the file's headers say. The header fields used here are those of ELF32 or ELF64. */
struct elf_file {
    const struct image *image;
    bool wide; /* ELF64 */
    unsigned type, machine;
    unsigned segments, segment_size;
    uint64_t entry;
    uint64_t segment_table; /* file offset, inside the file */
    struct elf_segment loads[ELF_MAX_SEGMENTS];
    unsigned load_count;
    bool has_pvh;
    gpa_t pvh_entry;
    const char *foreign; /* the end of a message: why it cannot be entered at `entry`; or NULL */
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
    memset(elf, 0, sizeof(*elf));
    elf->image = image;
    elf->wide = header.ident[EI_CLASS] == ELFCLASS64;
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
    if (elf->type != ET_EXEC && elf->type != ET_DYN)
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

/* Notes by which operating systems mark their programs, and some of them their kernels. */
static const struct {
    const char *name;
    unsigned type;
    const char *meaning;
} elf_foreign_notes[] = {
    { "GNU", NT_GNU_ABI_TAG, ELF_USER_PROGRAM },
    { "Go", 4, ELF_USER_PROGRAM },
    { "FreeBSD", 1, ELF_BSD_KERNEL },
    { "NetBSD", 1, ELF_BSD_KERNEL },
    { "OpenBSD", 1, ELF_BSD_KERNEL },
};

/* Takes the PVH entry if this note has it: 4 bytes in 32-bit kernels, 8 in 64-bit ones. */
static void elf_take_note(const Elf64_Nhdr *note, const uint8_t *name, const uint8_t *value,
                          struct elf_file *elf)
{
    for (unsigned i = 0; i < ARRAY_SIZE(elf_foreign_notes); i++)
        if (note->n_type == elf_foreign_notes[i].type &&
            note->n_namesz == strlen(elf_foreign_notes[i].name) + 1 &&
            !memcmp(name, elf_foreign_notes[i].name, note->n_namesz))
            elf->foreign = elf_foreign_notes[i].meaning;
    if (note->n_type != XEN_PHYS32_ENTRY || note->n_namesz != sizeof(XEN_NAME) ||
        memcmp(name, XEN_NAME, sizeof(XEN_NAME)) ||
        (note->n_descsz != sizeof(uint32_t) && note->n_descsz != sizeof(uint64_t)))
        return;
    elf->has_pvh = true;
    elf->pvh_entry = 0;
    memcpy(&elf->pvh_entry, value, note->n_descsz);
}

/* Each step is at least a header long, and checked against the bytes left. */
static void elf_scan_notes(const uint8_t *notes, size_t left, unsigned align, struct elf_file *elf)
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

        elf_take_note(&note, notes + sizeof(note), notes + sizeof(note) + name_size, elf);
        step = sizeof(note) + name_size + align_up(value_size, align);
        if (step > left)
            return;
        notes += step;
        left -= step;
    }
}

static int elf_read_notes(struct elf_file *elf, const struct elf_segment *segment)
{
    size_t size = segment->file_size;
    cleanup_free uint8_t *notes = NULL;
    int error;

    if (segment->file_size > ELF_MAX_NOTES)
        return log_refuse(EFBIG, "%s has too many notes: %llu bytes of them", elf->image->path,
                          (unsigned long long)segment->file_size);
    notes = malloc(size + 1);
    if (!notes)
        return log_error(ENOMEM, "read %s", elf->image->path);
    error = image_read(elf->image, segment->offset, notes, size);
    if (!error)
        elf_scan_notes(notes, size, segment->align == 8 ? 8 : 4, elf);
    return error;
}

static int elf_read_segments(struct elf_file *elf)
{
    for (unsigned i = 0; i < elf->segments; i++) {
        struct elf_segment segment;
        int error = elf_read_segment(elf, i, &segment);

        if (error)
            return error;
        if (segment.type == PT_LOAD && segment.size > 0)
            elf->loads[elf->load_count++] = segment;
        else if (segment.type == PT_NOTE)
            error = elf_read_notes(elf, &segment);
        else if (segment.type == PT_INTERP || segment.type == PT_TLS)
            elf->foreign = ELF_USER_PROGRAM;
        if (error)
            return error;
    }
    return 0;
}

/*
 * Has the file a Multiboot header (version 1 or 2)? Such a kernel starts in 32-bit mode, even if it
 * is an ELF64 file.
 */
static int elf_find_multiboot(const struct image *image, bool *ret)
{
    enum { MAGIC_1 = 0x1badb002, SEARCHED_1 = 8 * KIB, ALIGN_1 = 4 };
    enum { SEARCHED_2 = 32 * KIB, ALIGN_2 = 8 };
    const uint32_t magic_2 = 0xe85250d6;
    static const size_t fields = 4; /* magic, ..., checksum: their sum is 0 */
    size_t size = image->size < SEARCHED_2 ? image->size : SEARCHED_2;
    cleanup_free uint32_t *head = malloc(size); /* not on the stack, whose every page is touched */
    int error = head ? image_read(image, 0, head, size) : log_error(ENOMEM, "read %s", image->path);

    for (size_t i = 0; !error && i + fields <= size / sizeof(*head); i++) {
        const uint32_t *h = head + i;

        if ((i < SEARCHED_1 / 4 && h[0] == MAGIC_1 && h[0] + h[1] + h[2] == 0) ||
            (i % (ALIGN_2 / 4) == 0 && h[0] == magic_2 && h[0] + h[1] + h[2] + h[3] == 0)) {
            *ret = true;
            break;
        }
    }
    return error;
}

/* Without a PVH entry: refuses what cannot be entered by Linux's 64-bit boot protocol. */
static int elf_check_entry(const struct elf_file *elf)
{
    bool multiboot = false;
    int error = elf_find_multiboot(elf->image, &multiboot);
    const char *problem = multiboot              ? ELF_MULTIBOOT
                          : elf->foreign         ? elf->foreign
                          : elf->type != ET_EXEC ? ELF_USER_PROGRAM
                          : !elf->wide
                              ? "is a 32-bit kernel without a PVH entry; name one for x86_64"
                              : NULL;

    if (error || !problem)
        return error;
    return log_refuse(EINVAL, "%s %s", elf->image->path, problem);
}

/* Checks a segment, and that it overlaps none of those before it: they may be in any order. */
static int elf_check_segment(const struct elf_file *elf, unsigned index, const struct hardware *hw)
{
    const struct elf_segment *segment = &elf->loads[index];
    int error;

    if (segment->file_size > segment->size)
        return log_refuse(EINVAL, "%s is damaged: a segment is larger in the file than in memory",
                          elf->image->path);
    error = pc_check_kernel(hw, elf->image, segment->base, segment->size);
    if (error)
        return error;
    for (const struct elf_segment *other = elf->loads; other < segment; other++)
        if (segment->base < other->base + other->size &&
            other->base < segment->base + segment->size)
            return log_refuse(EINVAL, "%s is damaged: its segments overlap", elf->image->path);
    return 0;
}

/* Finds the end of all segments, and checks that one of them holds the entry point. */
static int elf_place(const struct elf_file *elf, const struct hardware *hw, gpa_t entry,
                     gpa_t *ret_end)
{
    bool inside = false;
    gpa_t end = 0;

    for (unsigned i = 0; i < elf->load_count; i++) {
        const struct elf_segment *segment = &elf->loads[i];
        int error = elf_check_segment(elf, i, hw);

        if (error)
            return error;
        inside |= entry >= segment->base && entry - segment->base < segment->size;
        if (segment->base + segment->size > end)
            end = segment->base + segment->size;
    }
    if (!inside)
        return log_refuse(EINVAL,
                          "%s is damaged or not a kernel: no segment holds its entry point %#llx",
                          elf->image->path, (unsigned long long)entry);
    *ret_end = end;
    return 0;
}

/* RAM is zero already, so a segment's BSS needs no clearing. */
static int elf_load_segments(const struct elf_file *elf, struct guest_memory *mem)
{
    int error = 0;

    for (unsigned i = 0; i < elf->load_count && !error; i++)
        error = image_load(elf->image, elf->loads[i].offset, elf->loads[i].file_size, mem,
                           elf->loads[i].base);
    return error;
}

int elf_load(const struct image *image, struct guest_memory *mem, const struct hardware *hw,
             struct pc_kernel *ret_kernel)
{
    struct elf_file elf;
    const char *problem;
    gpa_t entry, end = 0;
    int error = elf_read_header(&elf, image);

    if (error)
        return error;
    problem = elf_check(&elf);
    if (problem)
        return log_refuse(EINVAL, "%s %s", image->path, problem);
    error = elf_read_segments(&elf);
    if (!error && !elf.has_pvh)
        error = elf_check_entry(&elf);
    if (error)
        return error;
    entry = elf.has_pvh ? elf.pvh_entry : elf.entry;
    if ((error = elf_place(&elf, hw, entry, &end)) || (error = elf_load_segments(&elf, mem)))
        return error;

    *ret_kernel = (struct pc_kernel){
        .pvh = elf.has_pvh,
        .entry = entry,
        .end = end,
        .initrd_end = pc_ram_end(hw),
        .cmdline_size = ELF_CMDLINE_SIZE,
    };
    return 0;
}
