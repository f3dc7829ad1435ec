/* SPDX-License-Identifier: MIT */
#include "firmware/boot/vmlinux.h"

#include <elf.h>
#include <errno.h>

#include "tests/unit/pc.h"
#include "tests/unit/unit.h"
#include "vmm/core/base.h"

#define RAM       (256 * MIB)
#define PREFERRED (16 * MIB)
#define INIT_SIZE (8 * MIB)
#define ALIGN     (2 * MIB)
#define INITRD    (5 * MIB + 1)
#define CODE      0x1000 /* in the file: the segment, PREFERRED in memory */
#define CODE_SIZE 0x2000
#define ENTRY     0x40
#define ELF_END   (CODE + CODE_SIZE)
#define VIRTUAL   (0xffffffff80000000ull + PREFERRED)

/* Of the words that have to be relocated: offsets in the segment. */
enum { WORD64 = 0x100, OTHER64 = 0x1ff8, BEFORE32 = 0x201, WORD32 = 0x303, UNTOUCHED = 0x400 };

static struct guest_memory *mem;
static struct hardware hw;
static uint8_t file[ELF_END + 64];
static size_t size;
static struct pc_kernel kernel;
static struct setup_header header;

static void put(size_t at, const void *bytes, size_t n)
{
    memcpy(file + at, bytes, n);
}

static void add_reloc(unsigned offset)
{
    int32_t reloc = offset ? (int32_t)(VIRTUAL + offset) : 0;

    put(size, &reloc, sizeof(reloc));
    size += sizeof(reloc);
}

static void set_up(void)
{
    const Elf64_Ehdr elf = { .e_ident = { 0x7f, 'E', 'L', 'F', ELFCLASS64, ELFDATA2LSB },
                             .e_type = ET_EXEC,
                             .e_machine = EM_X86_64,
                             .e_entry = PREFERRED + ENTRY,
                             .e_phoff = sizeof(elf),
                             .e_phentsize = sizeof(Elf64_Phdr),
                             .e_phnum = 1,
                             .e_shoff = ELF_END - 64,
                             .e_shentsize = 64,
                             .e_shnum = 1 };
    const Elf64_Phdr segment = { .p_type = PT_LOAD,
                                 .p_offset = CODE,
                                 .p_paddr = PREFERRED,
                                 .p_filesz = CODE_SIZE,
                                 .p_memsz = CODE_SIZE + 77 };
    const uint64_t address = VIRTUAL + 8;

    memset(file, 0xcc, sizeof(file));
    put(0, &elf, sizeof(elf));
    put(sizeof(elf), &segment, sizeof(segment));
    put(CODE + WORD64, &address, 8);
    put(CODE + OTHER64, &address, 8);
    put(CODE + BEFORE32, &address, 4);
    put(CODE + WORD32, &address, 4);
    size = ELF_END;
    header = (struct setup_header){ .initrd_addr_max = 0x7fffffff,
                                    .kernel_alignment = ALIGN,
                                    .cmdline_size = 2047,
                                    .pref_address = PREFERRED,
                                    .init_size = INIT_SIZE };
    mem = made_memory(RAM);
    hw = made_hardware(RAM, 1, 0);
    log_capture();
}

static void tear_down(void)
{
    guest_memory_destroy(mem);
}

static void add_relocs(bool subtractions)
{
    add_reloc(0);
    add_reloc(WORD64);
    add_reloc(OTHER64);
    add_reloc(0);
    if (subtractions) {
        add_reloc(BEFORE32);
        add_reloc(0);
    }
    add_reloc(WORD32);
}

static int load(bool randomize)
{
    struct image image = made_image(file, size);
    int error = vmlinux_load(&image, randomize, INITRD, mem, &hw, &header, &kernel);

    image_close(&image);
    return error;
}

static uint64_t word(unsigned offset, unsigned n)
{
    uint64_t value = 0;

    memcpy(&value, guest_ptr(mem, kernel.entry - ENTRY + offset, n), n);
    return value;
}

/* What was added to virtual addresses: the same everywhere, -1 if not. */
static int64_t relocated_by(bool subtractions)
{
    int64_t by = (int64_t)(word(WORD64, 8) - VIRTUAL - 8);
    uint32_t narrow = (uint32_t)(VIRTUAL + 8);
    uint32_t before = subtractions ? narrow - (uint32_t)by : narrow;

    return word(OTHER64, 8) == word(WORD64, 8) && word(WORD32, 4) == narrow + (uint32_t)by &&
                   word(BEFORE32, 4) == before && word(UNTOUCHED, 8) == 0xccccccccccccccccull
               ? by
               : -1;
}

/* Within RAM, below the initrd; virtually within the gigabyte that Linux has for it. */
static void check_place(bool subtractions, bool *ret_moved)
{
    gpa_t base = kernel.entry - ENTRY;
    int64_t by = relocated_by(subtractions);

    ck_assert(!kernel.pvh);
    ck_assert_uint_eq(base % ALIGN, 0);
    ck_assert_uint_ge(base, PREFERRED);
    ck_assert_uint_eq(kernel.end, base + INIT_SIZE);
    ck_assert_uint_le(kernel.end, RAM - INITRD);
    ck_assert_int_ge(by, 0);
    ck_assert_int_eq(by % ALIGN, 0);
    ck_assert_uint_le(PREFERRED + (uint64_t)by + INIT_SIZE, 1 * GIB);
    ck_assert(header.loadflags & KASLR_FLAG);
    *ret_moved |= base != PREFERRED && by != 0;
}

START_TEST(random_places)
{
    bool moved = false;

    add_relocs(_i);
    for (unsigned i = 0; i < 100; i++) {
        header.loadflags = 0;
        ck_assert_int_eq(load(true), 0);
        check_place(_i, &moved);
        guest_memory_clear(mem);
    }
    ck_assert(moved);
}
END_TEST

START_TEST(the_preferred_place)
{
    if (_i)
        add_relocs(true);
    ck_assert_int_eq(load(false), 0);
    ck_assert_uint_eq(kernel.entry, PREFERRED + ENTRY);
    ck_assert_int_eq(relocated_by(true), 0);
    ck_assert(!(header.loadflags & KASLR_FLAG));
    ck_assert_uint_eq(kernel.initrd_end, 0x80000000);
    ck_assert_uint_eq(kernel.cmdline_size, 2047);
}
END_TEST

/* Only one place is possible. */
START_TEST(little_memory)
{
    add_relocs(true);
    hw = made_hardware(PREFERRED + INIT_SIZE + align_up(INITRD, ALIGN), 1, 0);
    ck_assert_int_eq(load(true), 0);
    ck_assert_uint_eq(kernel.entry, PREFERRED + ENTRY);
    hw = made_hardware(PREFERRED + INIT_SIZE + INITRD - 1, 1, 0);
    ck_assert_int_eq(load(true), -ENOEXEC);
}
END_TEST

#define SEGMENT(field) sizeof(Elf64_Ehdr) + offsetof(Elf64_Phdr, field)
#define RELOC(n)       ELF_END + 4 * (n)

static const struct {
    size_t at;
    unsigned size;
    uint64_t value;
} broken[] = {
    { 0, 1, 0 },
    { EI_CLASS, 1, ELFCLASS32 },
    { offsetof(Elf64_Ehdr, e_type), 2, ET_REL },
    { offsetof(Elf64_Ehdr, e_machine), 2, EM_AARCH64 },
    { offsetof(Elf64_Ehdr, e_entry), 8, PREFERRED - 1 },
    { offsetof(Elf64_Ehdr, e_entry), 8, PREFERRED + INIT_SIZE },
    { offsetof(Elf64_Ehdr, e_phoff), 8, UINT64_MAX },
    { offsetof(Elf64_Ehdr, e_phnum), 2, UINT16_MAX },
    { offsetof(Elf64_Ehdr, e_phnum), 2, 0 },
    { offsetof(Elf64_Ehdr, e_phentsize), 2, 8 },
    { offsetof(Elf64_Ehdr, e_shoff), 8, UINT64_MAX },
    { offsetof(Elf64_Ehdr, e_shoff), 8, ELF_END - 60 }, /* the relocations begin within a list */
    { offsetof(Elf64_Ehdr, e_shnum), 2, UINT16_MAX },
    { SEGMENT(p_type), 4, PT_NOTE },
    { SEGMENT(p_offset), 8, UINT64_MAX },
    { SEGMENT(p_filesz), 8, CODE_SIZE + 78 },
    { SEGMENT(p_filesz), 8, UINT64_MAX },
    { SEGMENT(p_paddr), 8, PREFERRED - 1 },
    { SEGMENT(p_paddr), 8, UINT64_MAX },
    { SEGMENT(p_memsz), 8, INIT_SIZE + 1 },
    { SEGMENT(p_memsz), 8, UINT64_MAX },
    { RELOC(0), 4, (uint32_t)VIRTUAL },             /* no list begins */
    { RELOC(1), 4, 0 },                             /* four lists */
    { RELOC(1), 4, (uint32_t)VIRTUAL - 1 },         /* before the kernel */
    { RELOC(1), 4, (uint32_t)VIRTUAL + INIT_SIZE }, /* after it */
    { RELOC(1), 4, (uint32_t)VIRTUAL + INIT_SIZE - 7 },
    { RELOC(1), 4, 1 },
};

START_TEST(damaged)
{
    add_relocs(true);
    memcpy(file + broken[_i].at, &broken[_i].value, broken[_i].size);
    kernel.entry = 77;
    ck_assert_int_eq(load(true), -ENOEXEC);
    ck_assert_uint_eq(kernel.entry, 77);
    for (gpa_t at = PREFERRED; at < RAM; at += ALIGN)
        ck_assert_uint_eq(*(const uint64_t *)guest_ptr(mem, at, 8), 0);
    ck_assert(!(header.loadflags & KASLR_FLAG));
}
END_TEST

START_TEST(truncated)
{
    add_relocs(true);
    for (size = ELF_END + 8; size > 0; size -= size > 128 ? 8 : 1)
        ck_assert_int_eq(load(true), -ENOEXEC);
}
END_TEST

START_TEST(unusual_headers)
{
    static const struct {
        uint64_t base;
        uint32_t size, align;
    } headers[] = { { PREFERRED, INIT_SIZE, 0 },       { PREFERRED, INIT_SIZE, 4096 },
                    { PREFERRED, INIT_SIZE, 3 * MIB }, { PREFERRED + 4096, INIT_SIZE, ALIGN },
                    { 0, INIT_SIZE, ALIGN },           { PREFERRED, 0, ALIGN },
                    { PREFERRED, UINT32_MAX, ALIGN },  { 1ull << 63, INIT_SIZE, ALIGN },
                    { PREFERRED, INIT_SIZE, 1u << 31 } };

    add_relocs(true);
    header.pref_address = headers[_i].base;
    header.init_size = headers[_i].size;
    header.kernel_alignment = headers[_i].align;
    ck_assert_int_eq(load(true), -ENOEXEC);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("vmlinux");
    TCase *tests = tcase_create("vmlinux");

    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_add_loop_test(tests, random_places, 0, 2);
    tcase_add_loop_test(tests, the_preferred_place, 0, 2);
    tcase_add_test(tests, little_memory);
    tcase_add_loop_test(tests, damaged, 0, ARRAY_SIZE(broken));
    tcase_add_test(tests, truncated);
    tcase_add_loop_test(tests, unusual_headers, 0, 9);
    suite_add_tcase(suite, tests);
    return unit_run(suite);
}
