/* SPDX-License-Identifier: MIT */
#include "arch/aarch64/boot.h"

#include <errno.h>
#include <libfdt.h>

#include "tests/unit/arm.h"
#include "tests/unit/unit.h"
#include "vmm/kvm/arch.h"

#define RAM        (32 * MIB)
#define KERNEL_END (RAM_BASE + 8 * MIB)

static struct guest_memory *mem;
static struct hardware hw;
static struct image kernel;
static struct boot_files files;
static gpa_t entry;

static void set_up(void)
{
    uint8_t header[4096] = { 0 };

    mem = made_ram(RAM_BASE, RAM);
    hw = made_arm(RAM, 1, 1);
    made_arm64_header(header, 0, KERNEL_END - RAM_BASE, 0);
    kernel = made_image(header, sizeof(header));
    files = (struct boot_files){ .kernel = &kernel, .cmdline = "quiet" };
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

static uint64_t initrd_start(void)
{
    const void *fdt = guest_ptr(mem, hw.fdt.base, hw.fdt.size);
    const fdt64_t *start =
        fdt_getprop(fdt, fdt_path_offset(fdt, "/chosen"), "linux,initrd-start", NULL);

    return start ? fdt64_ld(start) : 0;
}

START_TEST(kernel_and_tree)
{
    for (unsigned i = 0; i < 2; i++) { /* again after a reset */
        ck_assert_int_eq(load(), 0);
        ck_assert_uint_eq(entry, RAM_BASE);
        ck_assert_mem_eq(guest_ptr(mem, entry + 56, 4), "ARM\x64", 4);
        ck_assert_int_eq(fdt_check_header(guest_ptr(mem, hw.fdt.base, hw.fdt.size)), 0);
        ck_assert_uint_eq(initrd_start(), 0);
        guest_memory_clear(mem);
    }
}
END_TEST

/* An initrd's size, and its distance below the device tree; 0: it does not fit. */
static const struct {
    uint64_t size, below;
} initrds[] = {
    { 1, 64 * KIB },
    { 64 * KIB, 64 * KIB },
    { 64 * KIB + 1, 128 * KIB },
    { RAM - FDT_SIZE - 8 * MIB, RAM - FDT_SIZE - 8 * MIB },
    { RAM - FDT_SIZE - 8 * MIB + 1, 0 },
    { 1ull << 62, 0 },
};

START_TEST(initrd_below_the_tree)
{
    struct image initrd = made_image("initrd", 6);

    initrd.size = initrds[_i].size;
    files.initrd = &initrd;
    if (initrds[_i].below == 0) {
        ck_assert_int_eq(load(), -ENOMEM);
        ck_assert(logged("there is room for 22528; raise --memory"));
        return;
    }
    ck_assert_int_eq(ftruncate(initrd.fd, (off_t)initrd.size), 0);
    ck_assert_int_eq(load(), 0);
    ck_assert_uint_eq(initrd_start(), hw.fdt.base - initrds[_i].below);
    ck_assert_int_eq(*(char *)guest_ptr(mem, initrd_start(), 1), 'i');
}
END_TEST

START_TEST(command_line_too_long)
{
    char text[2049] = "";

    memset(text, 'x', 2047);
    files.cmdline = text;
    ck_assert_int_eq(load(), 0);
    text[2047] = 'y';
    ck_assert_int_eq(load(), -E2BIG);
    ck_assert(logged("shorten --cmdline"));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("arm64_boot");
    TCase *tests = tcase_create("arm64_boot");

    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_add_test(tests, kernel_and_tree);
    tcase_add_loop_test(tests, initrd_below_the_tree, 0, ARRAY_SIZE(initrds));
    tcase_add_test(tests, command_line_too_long);
    suite_add_tcase(suite, tests);
    return unit_run(suite);
}
