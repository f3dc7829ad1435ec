/* SPDX-License-Identifier: MIT */
#include "firmware/boot/bzimage.h"

#include <errno.h>

#include "tests/unit/pc.h"
#include "tests/unit/unit.h"
#include "vmm/core/base.h"

#define RAM        (64 * MIB)
#define SETUP_SIZE (3 * 512)
#define CODE_SIZE  4096
#define FILE_SIZE  (SETUP_SIZE + CODE_SIZE)
#define PREFERRED  (16 * MIB)
#define INIT_SIZE  (32 * MIB)

static struct guest_memory *mem;
static struct hardware hw;
static uint8_t file[FILE_SIZE];
static struct pc_kernel kernel;
static struct setup_header header;

/* A valid kernel: each test breaks one part of it. */
static void set_up(void)
{
    const struct setup_header good = {
        .setup_sects = SETUP_SIZE / 512 - 1,
        .root_flags = 1,
        .syssize = CODE_SIZE / 16,
        .boot_flag = 0xaa55,
        .jump = (uint16_t)((0x1f1 + sizeof(good) - 0x202) << 8 | 0xeb),
        .header = 0x53726448,
        .version = 0x20f,
        .loadflags = LOADED_HIGH,
        .initrd_addr_max = 0x7fffffff,
        .relocatable_kernel = 1,
        .kernel_alignment = 2 * MIB,
        .xloadflags = XLF_KERNEL_64,
        .cmdline_size = 2047,
        .pref_address = PREFERRED,
        .init_size = INIT_SIZE,
        .kernel_info_offset = 0x1234,
    };

    memset(file, 0, SETUP_SIZE);
    memcpy(file + 0x1f1, &good, sizeof(good));
    for (unsigned i = 0; i < CODE_SIZE; i++)
        file[SETUP_SIZE + i] = (uint8_t)(i * 7 + 1);
    mem = made_memory(RAM);
    hw = made_hardware(RAM, 1, 0);
    log_capture();
}

static void tear_down(void)
{
    guest_memory_destroy(mem);
}

static int load(size_t size)
{
    struct image image = made_image(file, size);
    int r = bzimage_load(&image, mem, &hw, &kernel, &header);

    image_close(&image);
    return r;
}

START_TEST(loads_at_its_preferred_address)
{
    ck_assert(bzimage_match(file));
    ck_assert_int_eq(load(FILE_SIZE), 0);
    ck_assert_mem_eq(guest_ptr(mem, PREFERRED, CODE_SIZE), file + SETUP_SIZE, CODE_SIZE);
    ck_assert(!kernel.pvh);
    ck_assert_uint_eq(kernel.entry, PREFERRED + 0x200);
    ck_assert_uint_eq(kernel.end, PREFERRED + INIT_SIZE);
    ck_assert_uint_eq(kernel.initrd_end, 0x80000000);
    ck_assert_uint_eq(kernel.cmdline_size, 2047);
    ck_assert_mem_eq(&header, file + 0x1f1, sizeof(header));
}
END_TEST

#define AT(field) 0x1f1 + offsetof(struct setup_header, field)

/* `size` bytes of `value` written over the valid header, and the message it leads to. */
static const struct {
    size_t offset;
    unsigned size;
    uint64_t value;
    const char *words;
    int error;
} broken[] = {
    { AT(boot_flag), 2, 0, "no Linux boot header", -EINVAL },
    { AT(header), 4, 0, "no Linux boot header", -EINVAL },
    { AT(loadflags), 1, 0, "is a zImage", -EINVAL },
    { AT(version), 2, 0x20b, "older than Linux 3.8", -EINVAL },
    { AT(version), 2, 0, "older than Linux 3.8", -EINVAL },
    { AT(xloadflags), 2, XLF_CAN_BE_LOADED_ABOVE_4G, "is a 32-bit kernel", -EINVAL },
    { AT(jump), 2, 0x00eb, "boot header is too short", -EINVAL },
    { AT(jump), 2, 0x5feb, "boot header is too short", -EINVAL },
    { AT(setup_sects), 1, 255, "is truncated", -EINVAL },
    { AT(setup_sects), 1, FILE_SIZE / 512 - 1, "is truncated", -EINVAL },
    { AT(setup_sects), 1, SETUP_SIZE / 512, "is truncated", -EINVAL },
    { AT(syssize), 4, CODE_SIZE / 16 + 1, "is truncated", -EINVAL },
    { AT(syssize), 4, UINT32_MAX, "is truncated", -EINVAL },
    { AT(pref_address), 8, 0, "load above", -EINVAL },
    { AT(pref_address), 8, MIB - 1, "load above", -EINVAL },
    { AT(pref_address), 8, RAM - INIT_SIZE + 1, "raise --memory", -ENOMEM },
    { AT(pref_address), 8, RAM, "raise --memory", -ENOMEM },
    { AT(pref_address), 8, 4 * GIB, "is damaged", -EINVAL },
    { AT(pref_address), 8, UINT64_MAX, "is damaged", -EINVAL },
    { AT(pref_address), 8, UINT64_MAX - INIT_SIZE + 1, "is damaged", -EINVAL },
    { AT(init_size), 4, RAM - PREFERRED + 1, "needs 65 MiB of memory, the guest has 64", -ENOMEM },
    { AT(init_size), 4, UINT32_MAX, "is damaged", -EINVAL },
};

START_TEST(offsets_past_the_end)
{
    memcpy(file + broken[_i].offset, &broken[_i].value, broken[_i].size);
    kernel.entry = 77;
    ck_assert_int_eq(load(FILE_SIZE), broken[_i].error);
    ck_assert(logged(broken[_i].words));
    ck_assert_uint_eq(kernel.entry, 77); /* untouched on failure */
}
END_TEST

START_TEST(truncated)
{
    for (size_t size = 1; size <= FILE_SIZE - 16; size += size < 0x300 ? 1 : 61) {
        ck_assert_int_eq(load(size), -EINVAL);
        ck_assert(logged("truncated"));
    }
}
END_TEST

/* syssize counts paragraphs of 16 bytes, rounded up: the last may be there in part. */
START_TEST(may_end_within_its_last_paragraph)
{
    for (unsigned missing = 1; missing < 16; missing++) {
        ck_assert_int_eq(load(FILE_SIZE - missing), 0);
        ck_assert_mem_eq(guest_ptr(mem, PREFERRED, CODE_SIZE), file + SETUP_SIZE,
                         CODE_SIZE - missing);
        guest_memory_clear(mem);
    }
    ck_assert_int_eq(load(FILE_SIZE - 16), -EINVAL);
    ck_assert(logged("made is truncated: has 5616 bytes, should have 5632"));
    ck_assert_int_eq(load(FILE_SIZE - 4096), -EINVAL);
    ck_assert(logged("truncated"));
}
END_TEST

/* A signature, or the rest of a partition. It is no reason for more memory than the kernel needs.
 */
START_TEST(bytes_after_the_kernel)
{
    static uint8_t padded[FILE_SIZE + RAM];
    uint32_t init_size = CODE_SIZE + 16;

    memcpy(file + AT(init_size), &init_size, sizeof(init_size));
    memcpy(padded, file, FILE_SIZE);
    memset(padded + FILE_SIZE, 0xee, RAM);
    struct image image = made_image(padded, sizeof(padded));

    ck_assert_int_eq(bzimage_load(&image, mem, &hw, &kernel, &header), 0);
    image_close(&image);
    ck_assert_uint_eq(kernel.end, PREFERRED + CODE_SIZE + 16);
    ck_assert_mem_eq(guest_ptr(mem, PREFERRED, CODE_SIZE + 16), padded + SETUP_SIZE,
                     CODE_SIZE + 16);
    ck_assert_uint_eq(*(uint8_t *)guest_ptr(mem, PREFERRED + CODE_SIZE + 16, 1), 0);
}
END_TEST

START_TEST(old_default_of_four_setup_sectors)
{
    file[AT(setup_sects)] = 0;
    file[AT(syssize)] = 0, file[AT(syssize) + 1] = 0;
    ck_assert_int_eq(load(FILE_SIZE), 0);
    ck_assert_mem_eq(guest_ptr(mem, PREFERRED, 512), file + 5 * 512, 512);
}
END_TEST

START_TEST(kernel_larger_than_init_size)
{
    uint32_t small = 16;

    memcpy(file + AT(init_size), &small, sizeof(small));
    ck_assert_int_eq(load(FILE_SIZE), 0);
    ck_assert_uint_eq(kernel.end, PREFERRED + CODE_SIZE);
}
END_TEST

/* They are the kernel's code and do not belong in the zero page. */
START_TEST(bytes_after_the_header_are_not_copied)
{
    size_t end = offsetof(struct setup_header, kernel_info_offset);

    file[0x201] = (uint8_t)(0x1f1 + end - 0x202);
    ck_assert_int_eq(load(FILE_SIZE), 0);
    ck_assert_uint_eq(header.kernel_info_offset, 0);
    ck_assert_uint_eq(header.init_size, INIT_SIZE);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("bzimage");
    TCase *tests = tcase_create("bzimage");

    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_add_test(tests, loads_at_its_preferred_address);
    tcase_add_loop_test(tests, offsets_past_the_end, 0, ARRAY_SIZE(broken));
    tcase_add_test(tests, truncated);
    tcase_add_test(tests, may_end_within_its_last_paragraph);
    tcase_add_test(tests, bytes_after_the_kernel);
    tcase_add_test(tests, old_default_of_four_setup_sectors);
    tcase_add_test(tests, kernel_larger_than_init_size);
    tcase_add_test(tests, bytes_after_the_header_are_not_copied);
    suite_add_tcase(suite, tests);
    return unit_run(suite);
}
