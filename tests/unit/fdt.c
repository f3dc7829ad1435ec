/* SPDX-License-Identifier: MIT */
#include "firmware/tables/fdt.h"

#include <errno.h>
#include <libfdt.h>

#include "tests/unit/arm.h"
#include "tests/unit/unit.h"

#define RAM (32 * MIB)

static struct guest_memory *mem;
static struct hardware hw;
static const struct fdt_chosen chosen = { "console=ttyAMA0 quiet", RAM_BASE + 16 * MIB, 12345 };

static void set_up(void)
{
    mem = made_ram(RAM_BASE, RAM);
    hw = made_arm(RAM, 4, 3);
    log_capture();
}

static void tear_down(void)
{
    guest_memory_destroy(mem);
}

static void *tree(void)
{
    return guest_ptr(mem, hw.fdt.base, hw.fdt.size);
}

static const void *property(const char *path, const char *name, int *ret_size)
{
    int node = fdt_path_offset(tree(), path);
    const void *value = node < 0 ? NULL : fdt_getprop(tree(), node, name, ret_size);

    ck_assert_msg(value, "%s has no %s", path, name);
    return value;
}

/* Checks that the property is this list of cells. */
static void expect_cells(const char *path, const char *name, unsigned count, const uint32_t *cells)
{
    int size;
    const fdt32_t *value = property(path, name, &size);

    ck_assert_int_eq(size, count * 4);
    for (unsigned i = 0; i < count; i++)
        ck_assert_uint_eq(fdt32_to_cpu(value[i]), cells[i]);
}

#define expect(path, name, ...)                                                      \
    expect_cells(path, name, sizeof((uint32_t[]){ __VA_ARGS__ }) / sizeof(uint32_t), \
                 (uint32_t[]){ __VA_ARGS__ })

static void expect_text(const char *path, const char *name, const char *text)
{
    int size;

    ck_assert_str_eq(property(path, name, &size), text);
}

static bool has(const char *path, const char *name)
{
    return fdt_getprop(tree(), fdt_path_offset(tree(), path), name, NULL);
}

START_TEST(describes_the_machine)
{
    ck_assert_int_eq(fdt_build(mem, &hw, &chosen), 0);
    ck_assert_int_eq(fdt_check_full(tree(), fdt_totalsize(tree())), 0);
    expect("/memory@40000000", "reg", 0, RAM_BASE, 0, RAM);
    expect("/cpus/cpu@3", "reg", 3);
    ck_assert_int_lt(fdt_path_offset(tree(), "/cpus/cpu@4"), 0);
    expect("/interrupt-controller@8000000", "reg", 0, GIC_DIST_BASE, 0, GIC_DIST_SIZE, 0,
           GIC_REDIST_BASE, 0, 4 * GIC_REDIST_SIZE);
    expect("/timer", "interrupts", 1, 13, 4, 1, 14, 4, 1, 11, 4, 1, 10, 4);
    expect("/pmu", "interrupts", 1, 7, 4);
    expect("/serial@9000000", "interrupts", 0, PL011_SPI, 4);
    expect("/virtio_mmio@e002000", "interrupts", 0, VIRTIO_SPI_FIRST + 2, 1);
    expect("/virtio_mmio@e011000", "interrupts", 0, 19, 1);
    ck_assert(has("/virtio_mmio@e000000", "dma-coherent"));
    expect_text("/psci", "method", "hvc");
    expect_text("/pvpanic@9020000", "compatible", "qemu,pvpanic-mmio");
}
END_TEST

/* Linux maps it uncached, which it refuses if a part of the page, of 64 KiB at most, is RAM. */
START_TEST(generation_id)
{
    uint32_t base = (uint32_t)hw.vmgenid.base;
    char node[64], reserved[64];

    ck_assert_int_eq(fdt_build(mem, &hw, &chosen), 0);
    snprintf(node, sizeof(node), "/vmgenid@%x", base);
    snprintf(reserved, sizeof(reserved), "/reserved-memory/vmgenid@%x", base);
    expect_text(node, "compatible", "microsoft,vmgenid");
    expect(node, "reg", 0, base, 0, 0x10000);
    expect(node, "interrupts", 0, VMGENID_SPI, 1);
    expect(reserved, "reg", 0, base, 0, 0x10000);
    ck_assert(has(reserved, "no-map"));
    ck_assert(has("/reserved-memory", "ranges"));
    ck_assert_uint_eq(base % 0x10000, 0);
    ck_assert_uint_eq(base, hw.fdt.base + hw.fdt.size);
}
END_TEST

START_TEST(chosen_node)
{
    ck_assert_int_eq(fdt_build(mem, &hw, &chosen), 0);
    expect_text("/chosen", "bootargs", chosen.cmdline);
    expect_text("/chosen", "stdout-path", "/serial@9000000");
    expect("/chosen", "linux,initrd-start", 0, (uint32_t)chosen.initrd);
    expect("/chosen", "linux,initrd-end", 0, (uint32_t)chosen.initrd + 12345);
    ck_assert_int_eq(fdt_build(mem, &hw, &(struct fdt_chosen){ .cmdline = "" }), 0);
    expect_text("/chosen", "bootargs", "");
    ck_assert(!has("/chosen", "linux,initrd-start"));
}
END_TEST

START_TEST(a_fresh_seed_each_time)
{
    uint8_t seeds[2][64];
    int size;

    for (unsigned i = 0; i < 2; i++) {
        ck_assert_int_eq(fdt_build(mem, &hw, &chosen), 0);
        memcpy(seeds[i], property("/chosen", "rng-seed", &size), 64);
        ck_assert_int_eq(size, 64);
        property("/chosen", "kaslr-seed", &size);
        ck_assert_int_eq(size, 8);
    }
    ck_assert_mem_ne(seeds[0], seeds[1], 64);
}
END_TEST

/* Linux numbers its disks in this order. */
START_TEST(virtio_in_the_order_given)
{
    uint64_t last = 0;
    unsigned count = 0;

    ck_assert_int_eq(fdt_build(mem, &hw, &chosen), 0);
    for (int node = -1; (node = fdt_node_offset_by_compatible(tree(), node, "virtio,mmio")) >= 0;) {
        const fdt32_t *reg = fdt_getprop(tree(), node, "reg", NULL);

        ck_assert_uint_gt(fdt32_to_cpu(reg[1]), last);
        last = fdt32_to_cpu(reg[1]);
        count++;
    }
    ck_assert_uint_eq(count, 4);
}
END_TEST

START_TEST(absent_devices_are_not_described)
{
    hw.virtio[1].size = 0;
    hw.pmu = false;
    hw.vmgenid.size = 0;
    ck_assert_int_eq(fdt_build(mem, &hw, &chosen), 0);
    ck_assert_int_lt(fdt_path_offset(tree(), "/virtio_mmio@e001000"), 0);
    ck_assert_int_gt(fdt_path_offset(tree(), "/virtio_mmio@e002000"), 0);
    ck_assert_int_lt(fdt_path_offset(tree(), "/pmu"), 0);
    ck_assert_int_lt(fdt_path_offset(tree(), "/reserved-memory"), 0);
    ck_assert_int_lt(fdt_node_offset_by_compatible(tree(), -1, "microsoft,vmgenid"), 0);
}
END_TEST

START_TEST(gic_version_2)
{
    hw.gic_version = 2;
    ck_assert_int_eq(fdt_build(mem, &hw, &chosen), 0);
    expect_text("/interrupt-controller@8000000", "compatible", "arm,cortex-a15-gic");
    expect("/pmu", "interrupts", 1, 7, 0xff04);
}
END_TEST

/* KVM numbers CPUs by clusters of 16. */
START_TEST(maximum_number_of_cpus)
{
    hw = made_arm(RAM, MAX_CPUS, HARDWARE_MAX_VIRTIO);
    ck_assert_int_eq(fdt_build(mem, &hw, &chosen), 0);
    expect("/cpus/cpu@f", "reg", 0xf);
    expect("/cpus/cpu@100", "reg", 0x100);
    expect("/cpus/cpu@1f0f", "reg", 0x1f0f);
}
END_TEST

START_TEST(room_too_small)
{
    hw.fdt.size = 1024;
    ck_assert_int_eq(fdt_build(mem, &hw, &chosen), -ENOSPC);
    ck_assert(logged("device tree"));
    hw.fdt = (struct hardware_range){ RAM_BASE + RAM, FDT_SIZE };
    ck_assert_int_eq(fdt_build(mem, &hw, &chosen), -EFAULT);
    ck_assert(logged("raise --memory"));
}
END_TEST

/* A user's tree: one made by fdt_build(), then changed. */
static struct image made_tree(int (*change)(void *fdt))
{
    static uint8_t copy[64 * KIB];

    ck_assert_int_eq(fdt_build(mem, &hw, &(struct fdt_chosen){ .cmdline = "old" }), 0);
    ck_assert_int_eq(fdt_open_into(tree(), copy, sizeof(copy)), 0);
    ck_assert_int_eq(change(copy), 0);
    ck_assert_int_eq(fdt_pack(copy), 0);
    guest_memory_clear(mem);
    return made_image(copy, fdt_totalsize(copy));
}

static int add_mark(void *fdt)
{
    return fdt_setprop_string(fdt, 0, "mark", "mine");
}

static int remove_chosen(void *fdt)
{
    return fdt_del_node(fdt, fdt_path_offset(fdt, "/chosen"));
}

static int remove_memory(void *fdt)
{
    return fdt_del_node(fdt, fdt_path_offset(fdt, "/memory@40000000"));
}

START_TEST(users_tree)
{
    struct image dtb = made_tree(add_mark);

    ck_assert_int_eq(fdt_load(mem, &hw, &dtb, &chosen), 0);
    expect_text("/", "mark", "mine");
    expect_text("/chosen", "bootargs", chosen.cmdline);
    expect("/chosen", "linux,initrd-start", 0, (uint32_t)chosen.initrd);
}
END_TEST

START_TEST(users_tree_without_chosen)
{
    struct image dtb = made_tree(remove_chosen);

    ck_assert_int_eq(fdt_load(mem, &hw, &dtb, &chosen), 0);
    expect_text("/chosen", "bootargs", chosen.cmdline);
}
END_TEST

START_TEST(users_tree_without_memory)
{
    struct image dtb = made_tree(remove_memory);

    ck_assert_int_eq(fdt_load(mem, &hw, &dtb, &chosen), -EINVAL);
    ck_assert(logged("made describes no memory"));
}
END_TEST

START_TEST(not_a_device_tree)
{
    static const char text[4096] = "/dts-v1/;";
    struct image dtb = made_image(text, _i ? sizeof(text) : 5);

    ck_assert_int_eq(fdt_load(mem, &hw, &dtb, &chosen), -EINVAL);
    ck_assert(logged("made is not a device tree"));
}
END_TEST

START_TEST(users_tree_too_large)
{
    struct image dtb = made_image("tree", 4);

    dtb.size = FDT_SIZE + 1;
    ck_assert_int_eq(fdt_load(mem, &hw, &dtb, &chosen), -EINVAL);
    ck_assert(logged("at most 1984 KiB"));
}
END_TEST

START_TEST(users_tree_truncated)
{
    struct image dtb = made_tree(add_mark);

    for (dtb.size--; dtb.size > 0; dtb.size -= 1 + dtb.size / 3) {
        guest_memory_clear(mem);
        ck_assert_int_eq(fdt_load(mem, &hw, &dtb, &chosen), -EINVAL);
        ck_assert(logged("made is not a device tree"));
    }
}
END_TEST

START_TEST(dumps_the_tree)
{
    char path[] = "/tmp/minivmm-fdt-XXXXXX";
    int fd = mkstemp(path);
    static uint8_t file[64 * KIB];

    ck_assert_int_eq(fdt_build(mem, &hw, &chosen), 0);
    ck_assert_int_eq(fdt_dump(mem, &hw, path), 0);
    unlink(path);
    ck_assert_int_eq(read(fd, file, sizeof(file)), fdt_totalsize(tree()));
    ck_assert_mem_eq(file, tree(), fdt_totalsize(tree()));
    ck_assert_int_eq(fdt_dump(mem, &hw, "/nowhere/tree"), -ENOENT);
    ck_assert(logged("create /nowhere/tree"));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("fdt");
    TCase *tests = tcase_create("fdt");

    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_add_test(tests, describes_the_machine);
    tcase_add_test(tests, generation_id);
    tcase_add_test(tests, chosen_node);
    tcase_add_test(tests, a_fresh_seed_each_time);
    tcase_add_test(tests, virtio_in_the_order_given);
    tcase_add_test(tests, absent_devices_are_not_described);
    tcase_add_test(tests, gic_version_2);
    tcase_add_test(tests, maximum_number_of_cpus);
    tcase_add_test(tests, room_too_small);
    tcase_add_test(tests, users_tree);
    tcase_add_test(tests, users_tree_without_chosen);
    tcase_add_test(tests, users_tree_without_memory);
    tcase_add_loop_test(tests, not_a_device_tree, 0, 2);
    tcase_add_test(tests, users_tree_too_large);
    tcase_add_test(tests, users_tree_truncated);
    tcase_add_test(tests, dumps_the_tree);
    suite_add_tcase(suite, tests);
    return unit_run(suite);
}
