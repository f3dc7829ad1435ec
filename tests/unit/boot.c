/* SPDX-License-Identifier: MIT */
#include "arch/x86_64/boot.h"

#include <asm/bootparam.h>
#include <elf.h>
#include <errno.h>

#include "firmware/boot/file_kind.h"
#include "firmware/boot/pc.h"
#include "tests/unit/pc.h"
#include "tests/unit/unit.h"
#include "vmm/core/base.h"
#include "vmm/kvm/arch.h"

#define RAM         (128 * MIB)
#define KERNEL_BASE (16 * MIB)
#define KERNEL_END  (32 * MIB)

static struct guest_memory *mem;
static struct hardware hw;
static struct boot_files files;
static struct boot_entry entry;

/* The smallest valid bzImage. */
static struct image made_bzimage(uint64_t initrd_max, uint32_t cmdline_size)
{
    const struct setup_header header = {
        .setup_sects = 1,
        .boot_flag = 0xaa55,
        .jump = (uint16_t)((0x1f1 + sizeof(header) - 0x202) << 8 | 0xeb),
        .header = 0x53726448,
        .version = 0x20f,
        .loadflags = LOADED_HIGH,
        .initrd_addr_max = (uint32_t)initrd_max,
        .xloadflags = XLF_KERNEL_64,
        .cmdline_size = cmdline_size,
        .pref_address = KERNEL_BASE,
        .init_size = KERNEL_END - KERNEL_BASE,
    };
    uint8_t file[2048] = { 0 };

    memcpy(file + 0x1f1, &header, sizeof(header));
    return made_image(file, sizeof(file));
}

static struct image made_pvh(void)
{
    struct {
        Elf64_Ehdr header;
        Elf64_Phdr segments[2];
        struct {
            Elf64_Nhdr header;
            char name[4];
            uint32_t entry;
        } note;
    } file = {
        .header = { .e_ident = { 0x7f, 'E', 'L', 'F', ELFCLASS64, ELFDATA2LSB },
                    .e_type = ET_EXEC,
                    .e_machine = EM_X86_64,
                    .e_phoff = sizeof(Elf64_Ehdr),
                    .e_phentsize = sizeof(Elf64_Phdr),
                    .e_phnum = 2 },
        .segments = { { .p_type = PT_LOAD,
                        .p_paddr = KERNEL_BASE,
                        .p_memsz = KERNEL_END - KERNEL_BASE },
                      { .p_type = PT_NOTE,
                        .p_offset = sizeof(Elf64_Ehdr) + 2 * sizeof(Elf64_Phdr),
                        .p_filesz = sizeof(file.note) } },
        .note = { { 4, 4, 18 }, "Xen", KERNEL_BASE + 8 },
    };

    return made_image(&file, sizeof(file));
}

static void set_up(void)
{
    static struct image kernel;

    kernel = made_bzimage(0x7fffffff, 2047);
    files = (struct boot_files){ .kernel = &kernel, .cmdline = "console=ttyS0" };
    mem = made_memory(RAM);
    hw = made_hardware(RAM, 2, 3);
    log_capture();
}

static void tear_down(void)
{
    guest_memory_destroy(mem);
}

static int load(void)
{
    return boot_load(mem, &hw, &files, &entry);
}

static uint64_t ram64(gpa_t gpa)
{
    uint64_t value;

    ck_assert_int_eq(guest_read(mem, gpa, &value, sizeof(value)), 0);
    return value;
}

static struct boot_params zero_page(void)
{
    struct boot_params params;

    ck_assert_uint_eq(entry.argument, BOOT_PARAMS_BASE);
    ck_assert_int_eq(guest_read(mem, entry.argument, &params, sizeof(params)), 0);
    return params;
}

START_TEST(zero_page_of_a_bzimage)
{
    struct boot_params params;

    ck_assert_int_eq(load(), 0);
    params = zero_page();
    ck_assert_int_eq(entry.protocol, BOOT_LINUX64);
    ck_assert_uint_eq(entry.rip, KERNEL_BASE + 0x200);
    ck_assert_uint_eq(params.hdr.version, 0x20f);
    ck_assert_uint_eq(params.hdr.type_of_loader, 0xff);
    ck_assert_uint_eq(params.hdr.ramdisk_size, 0);
    ck_assert_uint_eq(params.acpi_rsdp_addr, ACPI_BASE);
    ck_assert_str_eq(guest_ptr(mem, params.hdr.cmd_line_ptr, 14), "console=ttyS0");
    ck_assert_mem_eq(guest_ptr(mem, ACPI_BASE, 8), "RSD PTR ", 8);
}
END_TEST

/* The start of each range, its end, and its type. */
static const struct {
    uint64_t memory;
    unsigned count;
    uint64_t ranges[5][3];
} maps[] = {
    { 128 * MIB,
      4,
      { { 0, 0xa0000, PC_RAM },
        { 0xe0000, 0xf0000, PC_ACPI },
        { 0xf0000, MIB, PC_RESERVED },
        { MIB, 128 * MIB, PC_RAM } } },
    { 3 * GIB,
      4,
      { { 0, 0xa0000, PC_RAM },
        { 0xe0000, 0xf0000, PC_ACPI },
        { 0xf0000, MIB, PC_RESERVED },
        { MIB, 3 * GIB, PC_RAM } } },
    { 6 * GIB,
      5,
      { { 0, 0xa0000, PC_RAM },
        { 0xe0000, 0xf0000, PC_ACPI },
        { 0xf0000, MIB, PC_RESERVED },
        { MIB, 3 * GIB, PC_RAM },
        { 4 * GIB, 7 * GIB, PC_RAM } } },
};

START_TEST(e820)
{
    struct boot_params params;

    hw = made_hardware(maps[_i].memory, 1, 0);
    ck_assert_int_eq(load(), 0);
    params = zero_page();
    ck_assert_uint_eq(params.e820_entries, maps[_i].count);
    for (unsigned i = 0; i < maps[_i].count; i++) {
        const uint64_t *range = maps[_i].ranges[i];

        ck_assert_uint_eq(params.e820_table[i].addr, range[0]);
        ck_assert_uint_eq(params.e820_table[i].size, range[1] - range[0]);
        ck_assert_uint_eq(params.e820_table[i].type, range[2]);
    }
}
END_TEST

START_TEST(each_load_has_a_new_seed)
{
    uint8_t first[48], second[48];

    for (unsigned i = 0; i < 2; i++) {
        ck_assert_int_eq(load(), 0);
        ck_assert_int_eq(guest_read(mem, zero_page().hdr.setup_data, i ? second : first, 48), 0);
    }
    ck_assert_uint_eq(acpi_field(first, 0, 8), 0); /* the chain's end */
    ck_assert_uint_eq(acpi_field(first, 8, 4), SETUP_RNG_SEED);
    ck_assert_uint_eq(acpi_field(first, 12, 4), 32);
    ck_assert_mem_ne(first + 16, second + 16, 32);
}
END_TEST

START_TEST(a_second_load_after_a_reset)
{
    struct boot_entry before;
    struct boot_params params;

    ck_assert_int_eq(load(), 0);
    before = entry;
    params = zero_page();
    guest_memory_clear(mem);
    ck_assert_int_eq(load(), 0);
    ck_assert_mem_eq(&before, &entry, sizeof(entry));
    ck_assert_mem_eq(guest_ptr(mem, BOOT_PARAMS_BASE, sizeof(params)), &params, sizeof(params));
}
END_TEST

/* An initrd lies at the end of RAM, or below what the kernel can reach. */
static const struct {
    uint64_t initrd_max, size, base;
} places[] = {
    { 0x7fffffff, 4096, RAM - 4096 },         { 0x7fffffff, 1, RAM - 4096 },
    { 0x7fffffff, 4097, RAM - 8192 },         { 64 * MIB - 1, 4096, 64 * MIB - 4096 },
    { 64 * MIB + 99, 4096, 64 * MIB - 4096 }, { 0x7fffffff, RAM - KERNEL_END, KERNEL_END },
    { UINT32_MAX, 4096, RAM - 4096 },
};

START_TEST(the_initrd_is_loaded_as_high_as_possible)
{
    struct image kernel = made_bzimage(places[_i].initrd_max, 255);
    struct image initrd = made_image("initrd", 6);
    struct boot_params params;

    ck_assert_int_eq(ftruncate(initrd.fd, (off_t)places[_i].size), 0);
    initrd.size = places[_i].size;
    files.kernel = &kernel;
    files.initrd = &initrd;
    ck_assert_int_eq(load(), 0);
    params = zero_page();
    ck_assert_uint_eq(params.hdr.ramdisk_image, places[_i].base);
    ck_assert_uint_eq(params.hdr.ramdisk_size, places[_i].size);
    ck_assert_mem_eq(guest_ptr(mem, places[_i].base, 1), "initrd", 1);
}
END_TEST

static const struct {
    uint64_t initrd_max, size;
    const char *words;
} too_large[] = {
    { 0x7fffffff, RAM - KERNEL_END + 1, "raise --memory" },
    { 0x7fffffff, 1ull << 62, "raise --memory" },
    { 64 * MIB - 1, 32 * MIB + 1, "accepts no larger initrd" },
    { 0, 1, "accepts no larger initrd" },
    { KERNEL_BASE, 1, "accepts no larger initrd" },
};

START_TEST(a_too_large_initrd_is_refused)
{
    struct image kernel = made_bzimage(too_large[_i].initrd_max, 255);
    struct image initrd = made_image("initrd", 6);

    initrd.size = too_large[_i].size;
    files.kernel = &kernel;
    files.initrd = &initrd;
    ck_assert_int_eq(load(), -ENOMEM);
    ck_assert(logged(too_large[_i].words));
}
END_TEST

/* The limits of the kernel, and of the space for it. */
static const struct {
    uint32_t accepts;
    size_t limit;
} cmdlines[] = { { 2047, 2047 }, { 0, 0 }, { UINT32_MAX, CMDLINE_SIZE - 1 } };

START_TEST(a_too_long_command_line_is_refused)
{
    struct image kernel = made_bzimage(0x7fffffff, cmdlines[_i].accepts);
    size_t limit = cmdlines[_i].limit;
    char *text = calloc(1, limit + 2);

    files.kernel = &kernel;
    files.cmdline = text;
    memset(text, 'x', limit);
    ck_assert_int_eq(load(), 0);
    ck_assert_str_eq(guest_ptr(mem, CMDLINE_BASE, limit + 1), text);
    text[limit] = 'y';
    ck_assert_int_eq(load(), -E2BIG);
    ck_assert(logged("shorten --cmdline"));
    free(text);
}
END_TEST

/* A command line and what is added at its start for a TSC of 2.3 GHz. */
static const struct {
    const char *cmdline;
    bool added;
} tsc_lines[] = {
    { "no-kvmclock", true },
    { "quiet no-kvmclock -- no-kvmclock", true },
    { "quiet", false },
    { "quiet no-kvmclock-vsyscall xno-kvmclock x=no-kvmclock", false },
    { "no-kvmclock tsc_early_khz=1", false },
};

START_TEST(the_tsc_frequency_for_linux_without_kvmclock)
{
    const char *said = "tsc_early_khz=2300000 ";
    size_t length = strlen(said);
    const char *line;

    files.cmdline = tsc_lines[_i].cmdline;
    for (unsigned khz = 0; khz <= 2300000; khz += 2300000) {
        bool added = tsc_lines[_i].added && khz;

        hw.tsc_khz = khz;
        ck_assert_int_eq(load(), 0);
        line = guest_ptr(mem, zero_page().hdr.cmd_line_ptr, 128);
        ck_assert_int_eq(!strncmp(line, said, length), added);
        ck_assert_str_eq(line + (added ? length : 0), files.cmdline);
    }
}
END_TEST

START_TEST(pvh_start_info)
{
    struct image kernel = made_pvh();
    struct image initrd = made_image("initrd", 6);
    gpa_t info, list, map;

    hw = made_hardware(6 * GIB, 1, 0);
    hw.ram[0].size = RAM;
    files.kernel = &kernel;
    files.initrd = &initrd;
    ck_assert_int_eq(load(), 0);
    ck_assert_int_eq(entry.protocol, BOOT_PVH);
    ck_assert_uint_eq(entry.rip, KERNEL_BASE + 8);
    info = entry.argument;
    ck_assert_uint_eq(ram64(info), 0x1336ec578);    /* magic, version 1 */
    ck_assert_uint_eq(ram64(info + 8), 1ull << 32); /* no flags, one module */
    list = ram64(info + 16);
    ck_assert_uint_eq(ram64(list), RAM - 4096);
    ck_assert_uint_eq(ram64(list + 8), 6);
    ck_assert_str_eq(guest_ptr(mem, ram64(info + 24), 14), files.cmdline);
    ck_assert_uint_eq(ram64(info + 32), ACPI_BASE);
    map = ram64(info + 40);
    ck_assert_uint_eq(ram64(info + 48), 5);
    ck_assert_uint_eq(ram64(map + 8), 0xa0000);
    ck_assert_uint_eq(ram64(map + 4 * 24), 4 * GIB);
    ck_assert_uint_eq(ram64(map + 4 * 24 + 8), 3 * GIB);
    ck_assert_uint_eq(ram64(map + 4 * 24 + 16), PC_RAM);
}
END_TEST

/* Walks the tables as the CPU would, and looks up selectors in the GDT. */
START_TEST(page_tables_and_gdt)
{
    ck_assert_int_eq(load(), 0);
    for (uint64_t address = 0; address < 4 * GIB; address += 2 * MIB) {
        uint64_t pdpt = ram64(PAGE_TABLES_BASE);
        uint64_t directory = ram64(align_down(pdpt, 4096) + address / GIB * 8);
        uint64_t page = ram64(align_down(directory, 4096) + address % GIB / (2 * MIB) * 8);

        ck_assert_uint_eq(pdpt & directory & 3, 3);
        ck_assert_uint_eq(page, address | 0x83);
    }
    ck_assert_uint_eq(ram64(GDT_BASE), 0);
    ck_assert_uint_eq(ram64(GDT_BASE + BOOT_CS), 0x00af9b000000ffff);
    ck_assert_uint_eq(ram64(GDT_BASE + BOOT_DS), 0x00cf93000000ffff);
}
END_TEST

/* A guest that jumps to the BIOS, as Linux does, writes 1 to the reset register. */
START_TEST(the_reset_vector_resets_the_machine)
{
    const uint8_t code[] = { 0xba, 0x02, 0x06, 0xb0, 0x01, 0xee };

    ck_assert_int_eq(load(), 0);
    ck_assert_mem_eq(guest_ptr(mem, 0xffff0, 16), code, sizeof(code));
}
END_TEST

/* Files of other kinds: `magic` at `offset` of an otherwise empty file. */
static const struct {
    size_t offset;
    const char *magic;
    const char *words;
} others[] = {
    { 56, "ARM\x64", "an arm64 kernel" },
    { 0, "\x1f\x8b\x08", "gunzip" },
    { 0,
      "\xfd"
      "7zXZ",
      "unxz" },
    { 0, "\x28\xb5\x2f\xfd", "unzstd" },
    { 0, "\x02\x21\x4c\x18", "unlz4" },
    { 0, "BZh9", "bunzip2" },
    { 0, "070701", "--initrd" },
    { 0, "!<arch>\ndebian-binary", "dpkg -x" },
    { 0, "MZ", "an EFI or Windows program" },
    { 0, "QFI\xfb", "qcow2" },
    { 510, "\x55\xaa", "--disk" },
    { 0x438, "\x53\xef", "ext4" },
    { 0, "#!/bin/sh\n", "a text file" },
    { 0, "a plain text of many words", "a text file" },
    { 100, "x", "not a known kernel" },
    { 0, "x", "not a known kernel" },
    { 0, "xyz", "not a known kernel" },
    { 0,
      "\x7f"
      "ELF",
      "is a big-endian program" },
};

START_TEST(other_kinds_of_files_are_refused_by_name)
{
    char bytes[FILE_KIND_HEAD] = { 0 };
    struct image image;

    memcpy(bytes + others[_i].offset, others[_i].magic, strlen(others[_i].magic));
    image = made_image(bytes, sizeof(bytes));
    files.kernel = &image;
    ck_assert_int_eq(load(), -EINVAL);
    ck_assert(logged(others[_i].words));
}
END_TEST

/* Code may begin with printable bytes. */
START_TEST(text_followed_by_other_bytes_is_no_text)
{
    char bytes[FILE_KIND_HEAD] = "PQRSTUVWh\0\xff";
    struct image image = made_image(bytes, sizeof(bytes));

    files.kernel = &image;
    ck_assert_int_eq(load(), -EINVAL);
    ck_assert(logged("not a known kernel"));
}
END_TEST

START_TEST(too_little_memory_is_refused)
{
    guest_memory_destroy(mem);
    mem = made_memory(8 * MIB);
    hw = made_hardware(8 * MIB, 1, 0);
    ck_assert_int_eq(load(), -ENOMEM);
    ck_assert(logged("made needs 32 MiB of memory, the guest has 8; raise --memory"));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("boot");
    TCase *tests = tcase_create("boot");

    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_add_test(tests, zero_page_of_a_bzimage);
    tcase_add_loop_test(tests, e820, 0, ARRAY_SIZE(maps));
    tcase_add_test(tests, each_load_has_a_new_seed);
    tcase_add_test(tests, a_second_load_after_a_reset);
    tcase_add_loop_test(tests, the_initrd_is_loaded_as_high_as_possible, 0, ARRAY_SIZE(places));
    tcase_add_loop_test(tests, a_too_large_initrd_is_refused, 0, ARRAY_SIZE(too_large));
    tcase_add_loop_test(tests, a_too_long_command_line_is_refused, 0, ARRAY_SIZE(cmdlines));
    tcase_add_loop_test(tests, the_tsc_frequency_for_linux_without_kvmclock, 0,
                        ARRAY_SIZE(tsc_lines));
    tcase_add_test(tests, pvh_start_info);
    tcase_add_test(tests, page_tables_and_gdt);
    tcase_add_test(tests, the_reset_vector_resets_the_machine);
    tcase_add_loop_test(tests, other_kinds_of_files_are_refused_by_name, 0, ARRAY_SIZE(others));
    tcase_add_test(tests, text_followed_by_other_bytes_is_no_text);
    tcase_add_test(tests, too_little_memory_is_refused);
    suite_add_tcase(suite, tests);
    return unit_run(suite);
}
