/* SPDX-License-Identifier: MIT */
#include "firmware/boot/elf.h"

#include <elf.h>
#include <errno.h>
#include <stddef.h>

#include "tests/unit/pc.h"
#include "tests/unit/unit.h"
#include "vmm/core/base.h"

#define RAM (16 * MIB)

/* A kernel with two loadable segments and one of notes; tests break any field. */
static struct elf64_file {
    Elf64_Ehdr header;
    Elf64_Phdr segments[3];
    uint8_t code[256], data[64];
    uint8_t notes[128];
} file;

enum { CODE, DATA, NOTES };

#define CODE_BASE (2 * MIB)
#define DATA_BASE (4 * MIB)
#define BSS_SIZE  4096
#define ENTRY     (CODE_BASE + 0x10)
#define PVH_ENTRY (CODE_BASE + 0x20)

static struct guest_memory *mem;
static struct hardware hw;
static struct pc_kernel kernel;

/* Appends a note at `at` and returns where the next one goes. */
static size_t put_note(size_t at, const char *name, uint32_t type, uint64_t value, uint32_t size)
{
    Elf64_Nhdr note = { .n_namesz = (uint32_t)strlen(name) + 1, .n_descsz = size, .n_type = type };
    size_t value_at = at + sizeof(note) + align_up(note.n_namesz, 4);

    memcpy(file.notes + at, &note, sizeof(note));
    memcpy(file.notes + at + sizeof(note), name, note.n_namesz);
    memcpy(file.notes + value_at, &value, size);
    return value_at + align_up(size, 4);
}

static void set_up(void)
{
    const size_t start = offsetof(struct elf64_file, code);

    memset(&file, 0, sizeof(file));
    memcpy(file.header.e_ident, ELFMAG, SELFMAG);
    file.header.e_ident[EI_CLASS] = ELFCLASS64;
    file.header.e_ident[EI_DATA] = ELFDATA2LSB;
    file.header.e_type = ET_EXEC;
    file.header.e_machine = EM_X86_64;
    file.header.e_entry = ENTRY;
    file.header.e_phoff = sizeof(file.header);
    file.header.e_phentsize = sizeof(Elf64_Phdr);
    file.header.e_phnum = 2;
    file.segments[CODE] = (Elf64_Phdr){ .p_type = PT_LOAD,
                                        .p_offset = start,
                                        .p_paddr = CODE_BASE,
                                        .p_filesz = 256,
                                        .p_memsz = 256,
                                        .p_align = 4096 };
    file.segments[DATA] = (Elf64_Phdr){ .p_type = PT_LOAD,
                                        .p_offset = start + 256,
                                        .p_paddr = DATA_BASE,
                                        .p_filesz = 64,
                                        .p_memsz = 64 + BSS_SIZE,
                                        .p_align = 4096 };
    file.segments[NOTES] = (Elf64_Phdr){
        .p_type = PT_NOTE, .p_offset = start + 320, .p_filesz = sizeof(file.notes), .p_align = 4
    };
    memset(file.code, 0xcc, sizeof(file.code));
    memset(file.data, 0xdd, sizeof(file.data));

    mem = made_memory(RAM);
    hw = made_hardware(RAM, 1, 0);
    log_capture();
}

static void tear_down(void)
{
    guest_memory_destroy(mem);
}

static int load_bytes(const void *bytes, size_t size)
{
    struct image image = made_image(bytes, size);
    int r = elf_load(&image, mem, &hw, &kernel);

    image_close(&image);
    return r;
}

static int load(void)
{
    return load_bytes(&file, sizeof(file));
}

START_TEST(loads_segments)
{
    ck_assert(elf_match((const uint8_t *)&file));
    ck_assert_int_eq(load(), 0);
    ck_assert_mem_eq(guest_ptr(mem, CODE_BASE, 256), file.code, 256);
    ck_assert_mem_eq(guest_ptr(mem, DATA_BASE, 64), file.data, 64);
    ck_assert(!kernel.pvh);
    ck_assert_uint_eq(kernel.entry, ENTRY);
    ck_assert_uint_eq(kernel.end, DATA_BASE + 64 + BSS_SIZE);
    ck_assert_uint_eq(kernel.initrd_end, RAM);
}
END_TEST

START_TEST(pvh_note_takes_precedence)
{
    size_t at = put_note(0, "GNU", 3, 1, 4);

    at = put_note(at, "Linux", 18, CODE_BASE, 4);
    put_note(at, "Xen", 18, PVH_ENTRY, _i ? 8 : 4);
    file.header.e_phnum = 3;
    ck_assert_int_eq(load(), 0);
    ck_assert(kernel.pvh);
    ck_assert_uint_eq(kernel.entry, PVH_ENTRY);
}
END_TEST

/* After a note of many KiB. */
START_TEST(pvh_note_comes_late)
{
    const Elf64_Nhdr large = { .n_namesz = 4, .n_descsz = 20000, .n_type = 3 };
    static uint8_t bytes[sizeof(file) + 20000 + 64];
    size_t end = put_note(0, "Xen", 18, PVH_ENTRY, 4), at = offsetof(struct elf64_file, notes);

    file.header.e_phnum = 3;
    file.segments[NOTES].p_filesz = sizeof(bytes) - at;
    memcpy(bytes, &file, at);
    memcpy(bytes + at, &large, sizeof(large));
    memcpy(bytes + at + sizeof(large) + 4 + large.n_descsz, file.notes, end);
    ck_assert_int_eq(load_bytes(bytes, sizeof(bytes)), 0);
    ck_assert(kernel.pvh);
    file.segments[NOTES].p_filesz = 2 * MIB;
    ck_assert_int_eq(load(), -EFBIG);
    ck_assert(logged("too many notes"));
}
END_TEST

/* Name and value sizes of notes that are invalid, or end outside of the segment. */
static const struct {
    uint32_t name_size, value_size;
} bad_notes[] = {
    { 4, 2 },
    { 4, 16 },
    { 4, UINT32_MAX },
    { 4, UINT32_MAX - 3 },
    { 0, 4 },
    { 3, 4 },
    { UINT32_MAX, 4 },
    { UINT32_MAX - 11, 4 },
    { UINT32_MAX - 15, UINT32_MAX },
    { 0, 0 },
    { 112, 4 },
    { 113, 0 },
};

START_TEST(endless_notes)
{
    Elf64_Nhdr note = { bad_notes[_i].name_size, bad_notes[_i].value_size, 18 };

    put_note(0, "Xen", 18, PVH_ENTRY, 4);
    memcpy(file.notes, &note, sizeof(note));
    file.header.e_phnum = 3;
    ck_assert_int_eq(load(), 0);
    ck_assert(!kernel.pvh);
    ck_assert_uint_eq(kernel.entry, ENTRY);
}
END_TEST

/* The last note may lack the padding before a next one. */
START_TEST(note_at_the_very_end)
{
    size_t used = put_note(0, "Xen", 18, PVH_ENTRY, 4);

    file.segments[NOTES].p_filesz = used;
    file.segments[NOTES].p_align = 8;
    file.header.e_phnum = 3;
    ck_assert_int_eq(load(), 0);
    ck_assert(kernel.pvh);
}
END_TEST

#define HEADER(field) offsetof(Elf64_Ehdr, field), sizeof(file.header.field)
#define SEGMENT(n, field)                                                        \
    sizeof(Elf64_Ehdr) + (n) * sizeof(Elf64_Phdr) + offsetof(Elf64_Phdr, field), \
        sizeof(file.segments[0].field)

static const struct {
    size_t offset;
    size_t size;
    uint64_t value;
    const char *words;
    int error;
} broken[] = {
    { HEADER(e_machine), EM_AARCH64, "is an arm64 program", -EINVAL },
    { HEADER(e_machine), EM_RISCV, "another architecture", -EINVAL },
    { HEADER(e_machine), EM_386, "another architecture", -EINVAL },
    { EI_CLASS, 1, ELFCLASS32, "another architecture", -EINVAL },
    { EI_DATA, 1, ELFDATA2MSB, "big-endian", -EINVAL },
    { HEADER(e_type), ET_REL, "kernel module", -EINVAL },
    { HEADER(e_type), ET_DYN, "operating system", -EINVAL },
    { HEADER(e_type), ET_CORE, "operating system", -EINVAL },
    { SEGMENT(DATA, p_type), PT_INTERP, "operating system", -EINVAL },
    { SEGMENT(DATA, p_type), PT_TLS, "operating system", -EINVAL },
    { HEADER(e_phnum), 0xffff, "more program headers", -EINVAL },
    { HEADER(e_phnum), 129, "more program headers", -EINVAL },
    { HEADER(e_phnum), 128, "made", -EINVAL },
    { HEADER(e_phnum), 0, "entry", -EINVAL },
    { HEADER(e_phentsize), 0, "headers are missing", -EINVAL },
    { HEADER(e_phentsize), 57, "headers are missing", -EINVAL },
    { HEADER(e_phoff), UINT64_MAX, "headers are missing", -EINVAL },
    { HEADER(e_phoff), UINT64_MAX - 55, "headers are missing", -EINVAL },
    { HEADER(e_phoff), sizeof(file), "truncated", -EINVAL },
    { HEADER(e_phoff), sizeof(file) - 8, "truncated", -EINVAL },
    { HEADER(e_entry), CODE_BASE - 1, "entry", -EINVAL },
    { HEADER(e_entry), DATA_BASE + 64 + BSS_SIZE, "entry", -EINVAL },
    { HEADER(e_entry), UINT64_MAX, "entry", -EINVAL },
    { SEGMENT(CODE, p_offset), sizeof(file) - 255, "truncated", -EINVAL },
    { SEGMENT(CODE, p_offset), UINT64_MAX, "truncated", -EINVAL },
    { SEGMENT(CODE, p_offset), UINT64_MAX - 254, "truncated", -EINVAL },
    { SEGMENT(CODE, p_filesz), 257, "larger in the file", -EINVAL },
    { SEGMENT(CODE, p_filesz), UINT64_MAX, "larger in the file", -EINVAL },
    { SEGMENT(CODE, p_paddr), 0, "load above", -EINVAL },
    { SEGMENT(CODE, p_paddr), MIB - 1, "load above", -EINVAL },
    { SEGMENT(CODE, p_paddr), UINT64_MAX, "is damaged", -EINVAL },
    { SEGMENT(CODE, p_paddr), UINT64_MAX - 255, "is damaged", -EINVAL },
    { SEGMENT(CODE, p_paddr), 0xffffffff81000000, "is damaged", -EINVAL },
    { SEGMENT(CODE, p_paddr), RAM - 255, "raise --memory", -ENOMEM },
    { SEGMENT(CODE, p_memsz), RAM, "needs 18 MiB of memory, the guest has 16", -ENOMEM },
    { SEGMENT(CODE, p_memsz), UINT64_MAX, "is damaged", -EINVAL },
    { SEGMENT(CODE, p_memsz), DATA_BASE - CODE_BASE + 1, "overlap", -EINVAL },
    { SEGMENT(DATA, p_paddr), CODE_BASE + 255, "overlap", -EINVAL },
    { SEGMENT(DATA, p_paddr), CODE_BASE, "overlap", -EINVAL },
    { SEGMENT(DATA, p_paddr), CODE_BASE - 64, "overlap", -EINVAL },
};

START_TEST(bad_headers_and_segments)
{
    memcpy((char *)&file + broken[_i].offset, &broken[_i].value, broken[_i].size);
    kernel.entry = 77;
    ck_assert_int_eq(load(), broken[_i].error);
    ck_assert(logged(broken[_i].words));
    ck_assert_uint_eq(kernel.entry, 77); /* untouched on failure */
}
END_TEST

START_TEST(truncated)
{
    file.header.e_phnum = 3;
    for (size_t size = 4; size < sizeof(file); size++) {
        ck_assert_int_eq(load_bytes(&file, size), -EINVAL);
        ck_assert(logged("truncated"));
    }
}
END_TEST

/* ELF orders segments by virtual address, which says nothing about the physical one. */
START_TEST(segments_in_any_order)
{
    file.segments[DATA].p_paddr = CODE_BASE - 64 - BSS_SIZE;
    ck_assert_int_eq(load(), 0);
    ck_assert_mem_eq(guest_ptr(mem, CODE_BASE - 64 - BSS_SIZE, 64), file.data, 64);
    ck_assert_mem_eq(guest_ptr(mem, CODE_BASE, 256), file.code, 256);
    ck_assert_uint_eq(kernel.end, CODE_BASE + 256);
}
END_TEST

/* FreeBSD's has an interpreter, for tools; others are position-independent. */
START_TEST(pvh_note_of_a_kernel_that_looks_like_a_program)
{
    put_note(put_note(0, "FreeBSD", 1, 1400000, 4), "Xen", 18, PVH_ENTRY, 4);
    file.header.e_phnum = 3;
    file.segments[DATA].p_type = PT_INTERP;
    file.header.e_type = ET_DYN;
    ck_assert_int_eq(load(), 0);
    ck_assert(kernel.pvh);
}
END_TEST

static const struct {
    const char *name;
    uint32_t type;
    const char *words;
} foreign_notes[] = {
    { "GNU", 1, "is a program or library of an operating system" },
    { "Go", 4, "is a program or library of an operating system" },
    { "FreeBSD", 1, "BSD without a PVH entry point" },
    { "NetBSD", 1, "BSD without a PVH entry point" },
    { "OpenBSD", 1, "BSD without a PVH entry point" },
};

START_TEST(without_pvh_other_systems_are_refused_by_name)
{
    put_note(0, foreign_notes[_i].name, foreign_notes[_i].type, 1, 4);
    file.header.e_phnum = 3;
    file.segments[CODE].p_paddr = GIB; /* more important than that it does not fit */
    ck_assert_int_eq(load(), -EINVAL);
    ck_assert(logged(foreign_notes[_i].words));
}
END_TEST

/* Offset and words of a header; whether it is one that a Multiboot loader would find. */
static const struct {
    size_t offset;
    uint32_t words[4];
    bool found;
} multiboot_headers[] = {
    { 0, { 0x1badb002, 0x10003, 0u - 0x1badb002 - 0x10003 }, true },
    { 12, { 0x1badb002, 0, 0u - 0x1badb002 }, true },
    { 0, { 0x1badb002, 0, 1u - 0x1badb002 }, false },
    { 2, { 0x1badb002, 0, 0u - 0x1badb002 }, false },
    { 8192 - 12, { 0x1badb002, 0, 0u - 0x1badb002 }, true },
    { 8192, { 0x1badb002, 0, 0u - 0x1badb002 }, false },
    { 0, { 0xe85250d6, 0, 24, 0u - 0xe85250d6 - 24 }, true },
    { 4, { 0xe85250d6, 0, 24, 0u - 0xe85250d6 - 24 }, false },
    { 32768 - 16, { 0xe85250d6, 0, 24, 0u - 0xe85250d6 - 24 }, true },
    { 32768, { 0xe85250d6, 0, 24, 0u - 0xe85250d6 - 24 }, false },
};

/* Multiboot starts an ELF64 kernel in 32-bit mode, too. */
START_TEST(multiboot)
{
    static uint8_t bytes[40000];
    size_t at = multiboot_headers[_i].offset;

    memset(bytes, 0, sizeof(bytes));
    memcpy(bytes, &file, sizeof(file));
    if (at < offsetof(struct elf64_file, code))
        at += offsetof(struct elf64_file, code); /* a multiple of 8 */
    memcpy(bytes + at, multiboot_headers[_i].words, 16);
    ck_assert_int_eq(load_bytes(bytes, sizeof(bytes)), multiboot_headers[_i].found ? -EINVAL : 0);
    if (multiboot_headers[_i].found)
        ck_assert(logged("is a Multiboot kernel without a PVH entry point"));

    put_note(0, "Xen", 18, PVH_ENTRY, 4);
    memcpy(bytes, &file, sizeof(file));
    ((struct elf64_file *)bytes)->header.e_phnum = 3;
    ck_assert_int_eq(load_bytes(bytes, sizeof(bytes)), 0); /* by PVH */
}
END_TEST

/* A 32-bit kernel has no 64-bit entry, but may have PVH's. */
START_TEST(elf32_by_its_pvh_note)
{
    struct elf32_file {
        Elf32_Ehdr header;
        Elf32_Phdr segments[2];
        uint8_t code[256], notes[32];
    } narrow = {
        .header = { .e_ident = { 0x7f, 'E', 'L', 'F', ELFCLASS32, ELFDATA2LSB },
                    .e_type = ET_EXEC,
                    .e_machine = EM_386,
                    .e_entry = ENTRY,
                    .e_phoff = sizeof(Elf32_Ehdr),
                    .e_phentsize = sizeof(Elf32_Phdr),
                    .e_phnum = 1 },
        .segments = { { .p_type = PT_LOAD,
                        .p_offset = offsetof(struct elf32_file, code),
                        .p_paddr = CODE_BASE,
                        .p_filesz = 256,
                        .p_memsz = 256 },
                      { .p_type = PT_NOTE,
                        .p_offset = offsetof(struct elf32_file, notes),
                        .p_filesz = 32 } },
    };

    put_note(0, "Xen", 18, PVH_ENTRY, 4);
    memcpy(narrow.notes, file.notes, sizeof(narrow.notes));
    ck_assert_int_eq(load_bytes(&narrow, sizeof(narrow)), -EINVAL);
    ck_assert(logged("32-bit kernel"));

    narrow.header.e_phnum = 2;
    ck_assert_int_eq(load_bytes(&narrow, sizeof(narrow)), 0);
    ck_assert(kernel.pvh);
    ck_assert_uint_eq(kernel.entry, PVH_ENTRY);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("elf");
    TCase *tests = tcase_create("elf");

    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_add_test(tests, loads_segments);
    tcase_add_loop_test(tests, pvh_note_takes_precedence, 0, 2);
    tcase_add_test(tests, pvh_note_comes_late);
    tcase_add_loop_test(tests, endless_notes, 0, ARRAY_SIZE(bad_notes));
    tcase_add_test(tests, note_at_the_very_end);
    tcase_add_loop_test(tests, bad_headers_and_segments, 0, ARRAY_SIZE(broken));
    tcase_add_test(tests, truncated);
    tcase_add_test(tests, segments_in_any_order);
    tcase_add_test(tests, pvh_note_of_a_kernel_that_looks_like_a_program);
    tcase_add_loop_test(tests, without_pvh_other_systems_are_refused_by_name, 0,
                        ARRAY_SIZE(foreign_notes));
    tcase_add_loop_test(tests, multiboot, 0, ARRAY_SIZE(multiboot_headers));
    tcase_add_test(tests, elf32_by_its_pvh_note);
    suite_add_tcase(suite, tests);
    return unit_run(suite);
}
