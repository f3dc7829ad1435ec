/* SPDX-License-Identifier: MIT */
#include "firmware/tables/acpi.h"

#include <errno.h>

#include "firmware/tables/aml.h"
#include "tests/unit/pc.h"
#include "tests/unit/unit.h"
#include "vmm/core/base.h"

static struct guest_memory *mem;
static struct hardware hw;

static void set_up(void)
{
    mem = made_memory(2 * MIB);
    hw = made_hardware(2 * MIB, 4, 3);
    log_capture();
}

static void tear_down(void)
{
    guest_memory_destroy(mem);
}

static const uint8_t *find(const char *signature, uint32_t *ret_size)
{
    const uint8_t *table = acpi_find(mem, ACPI_BASE, signature, ret_size);

    ck_assert_ptr_nonnull(table);
    ck_assert_mem_eq(table, signature, 4);
    return table;
}

static uint8_t sum(const uint8_t *data, size_t len)
{
    uint8_t total = 0;

    for (size_t i = 0; i < len; i++)
        total = (uint8_t)(total + data[i]);
    return total;
}

/* Counts `bytes` in the DSDT; `ret_at` receives the last offset. */
static unsigned count_in_dsdt(const void *bytes, size_t len, size_t *ret_at)
{
    unsigned count = 0;
    uint32_t size;
    const uint8_t *dsdt = find("DSDT", &size);

    for (size_t at = 36; at + len <= size; at++)
        if (!memcmp(dsdt + at, bytes, len)) {
            count++;
            if (ret_at)
                *ret_at = at;
        }
    return count;
}

static const struct {
    unsigned cpus, virtio;
} machines[] = { { 1, 0 }, { 1, 1 }, { 4, 3 }, { 254, 16 }, { 255, 16 }, { 300, 16 } };

START_TEST(every_checksum_and_length)
{
    const char *const signatures[] = { "XSDT", "FACP", "APIC", "DSDT" };
    const uint8_t *rsdp = guest_ptr(mem, ACPI_BASE, 36);

    hw = made_hardware(2 * MIB, machines[_i].cpus, machines[_i].virtio);
    ck_assert_int_eq(acpi_build(mem, &hw), 0);
    ck_assert_mem_eq(rsdp, "RSD PTR ", 8);
    ck_assert_uint_eq(sum(rsdp, 20), 0);
    ck_assert_uint_eq(sum(rsdp, 36), 0);
    for (unsigned i = 0; i < ARRAY_SIZE(signatures); i++) {
        uint32_t size = 0;
        const uint8_t *table = find(signatures[i], &size);

        ck_assert_uint_ge(size, 36);
        ck_assert_uint_eq(sum(table, size), 0);
    }
}
END_TEST

START_TEST(power_off_and_reset_have_registers)
{
    const struct {
        size_t offset;
        uint64_t port;
    } registers[] = { { 116, POWER_PORT + 2 }, { 244, POWER_PORT }, { 256, POWER_PORT + 1 } };
    uint32_t size;
    const uint8_t *fadt;

    ck_assert_int_eq(acpi_build(mem, &hw), 0);
    fadt = find("FACP", &size);
    ck_assert_uint_eq(size, 276);
    ck_assert_uint_eq(fadt[8], 6);
    ck_assert_uint_eq(acpi_field(fadt, 109, 2), 0x04);        /* no VGA, no 8042 */
    ck_assert_uint_eq(acpi_field(fadt, 112, 4) >> 20 & 1, 1); /* hardware-reduced */
    ck_assert_uint_eq(acpi_field(fadt, 112, 4) >> 10 & 1, 1); /* reset register */
    ck_assert_uint_eq(fadt[128], 1);
    for (unsigned i = 0; i < ARRAY_SIZE(registers); i++) {
        ck_assert_uint_eq(acpi_field(fadt, registers[i].offset, 4), 0x01000801);
        ck_assert_uint_eq(acpi_field(fadt, registers[i].offset + 4, 8), registers[i].port);
    }
    ck_assert_uint_eq(count_in_dsdt("\x08_S5_\x12\x07\x04\x0a\x05\0\0\0", 13, NULL), 1);
}
END_TEST

/* Fixed hardware of a hardware-reduced machine, for those who look for it nevertheless. */
START_TEST(clocks)
{
    const uint8_t rtc[] = { 0x47, 1, 0x70, 0, 0x70, 0, 1, 2 };
    uint32_t size;
    const uint8_t *fadt;

    ck_assert_int_eq(acpi_build(mem, &hw), 0);
    fadt = find("FACP", &size);
    ck_assert_uint_eq(acpi_field(fadt, 76, 4), PM_TIMER_PORT);
    ck_assert_uint_eq(fadt[91], 4);
    ck_assert_uint_eq(acpi_field(fadt, 208, 4), 0); /* the 64-bit field would slow down Linux */
    ck_assert_uint_eq(acpi_field(fadt, 212, 8), 0);
    ck_assert_uint_eq(acpi_field(fadt, 112, 4) >> 8 & 1, 1);          /* all 32 bits count */
    ck_assert_uint_eq(fadt[108], 0x32);                               /* the century's register */
    ck_assert_uint_eq(count_in_dsdt("\x41\xd0\x0b\x00", 4, NULL), 1); /* PNP0B00 */
    ck_assert_uint_eq(count_in_dsdt(rtc, sizeof(rtc), NULL), 1);
}
END_TEST

/* Counts the MADT's entries by type and checks that the last one ends with the table. */
static void count_madt(unsigned count[16])
{
    uint32_t size;
    const uint8_t *madt = find("APIC", &size);
    size_t at = 44;

    ck_assert_uint_eq(acpi_field(madt, 36, 4), LAPIC_BASE);
    while (at < size) {
        ck_assert_uint_ge(madt[at + 1], 2);
        ck_assert_uint_lt(madt[at], 16);
        count[madt[at]]++;
        if (madt[at] == 1)
            ck_assert_uint_eq(acpi_field(madt, at + 4, 4), IOAPIC_BASE);
        at += madt[at + 1];
    }
    ck_assert_uint_eq(at, size);
}

START_TEST(cpus_by_xapic_and_x2apic)
{
    unsigned count[16] = { 0 };
    unsigned cpus = machines[_i].cpus;

    hw = made_hardware(2 * MIB, cpus, 0);
    ck_assert_int_eq(acpi_build(mem, &hw), 0);
    count_madt(count);
    ck_assert_uint_eq(count[0], cpus < 255 ? cpus : 255);
    ck_assert_uint_eq(count[9], cpus < 255 ? 0 : cpus - 255);
    ck_assert_uint_eq(count[1], 1);
    ck_assert_uint_eq(count[4], 1);
    ck_assert_uint_eq(count[10], cpus > 255);
}
END_TEST

START_TEST(devices_in_the_order_given)
{
    size_t before = 0;

    hw = made_hardware(2 * MIB, 1, 16);
    ck_assert_int_eq(acpi_build(mem, &hw), 0);
    ck_assert_uint_eq(count_in_dsdt("LNRO0005", 9, NULL), 16);
    ck_assert_uint_eq(count_in_dsdt("ACPI0013", 9, NULL), 1);
    ck_assert_uint_eq(count_in_dsdt("\x41\xd0\x05\x01", 4, NULL), 1); /* PNP0501 */
    ck_assert_uint_eq(count_in_dsdt("\x41\xd0\x0c\x0c", 4, NULL), 1); /* PNP0C0C */
    for (unsigned i = 0; i < 16; i++) {
        uint32_t base = (uint32_t)hw.virtio[i].base;
        uint8_t node[] = { 0x86, 9, 0, 1,    0, 0,
                           0,    0, 0, 0x10, 0, 0, /* 4 KiB of memory */
                           0x89, 6, 0, 3,    1, (uint8_t)hw.virtio[i].gsi,
                           0,    0, 0, 0x79 };
        size_t at = 0;

        memcpy(node + 4, &base, sizeof(base));
        ck_assert_uint_eq(count_in_dsdt(node, sizeof(node), &at), 1);
        ck_assert_uint_gt(at, before);
        before = at;
    }
}
END_TEST

START_TEST(generation_id_and_its_event)
{
    const uint8_t address[] = { 0x08, 'A', 'D', 'D', 'R', 0x12, 8, 2, 0x0c, 0, 0xf0, 0x0f, 0, 0 };
    const uint8_t interrupts[] = { 0x89, 6, 0, 3, 1, 9, 0, 0, 0, 0x89, 6, 0, 3, 1, 23, 0, 0, 0 };
    const uint8_t event[] = {
        0xa0, 0x0c, 0x93, 0x68, 0x0a, 23, 0x86, 'V', 'G', 'E', 'N', 0x0a, 0x80
    };

    ck_assert_int_eq(acpi_build(mem, &hw), 0);
    ck_assert_uint_eq(count_in_dsdt("_HID\x0dVMGENCTR", 14, NULL), 1);
    ck_assert_uint_eq(count_in_dsdt("_CID\x0dVM_Gen_Counter", 20, NULL), 1);
    ck_assert_uint_eq(count_in_dsdt("_DDN\x0dVM_Gen_Counter", 20, NULL), 1);
    ck_assert_uint_eq(count_in_dsdt(address, sizeof(address), NULL), 1);
    ck_assert_uint_eq(count_in_dsdt(interrupts, sizeof(interrupts), NULL), 1);
    ck_assert_uint_eq(count_in_dsdt(event, sizeof(event), NULL), 1);
}
END_TEST

/* The memory map keeps the guest away from the ID, in a range that is not for tables either. */
START_TEST(generation_id_is_not_in_ram)
{
    struct pc_range ranges[PC_MAX_RANGES];
    unsigned found = 0;

    for (unsigned i = 0, count = pc_memory_map(&hw, ranges); i < count; i++)
        if (hw.vmgenid.base >= ranges[i].base &&
            hw.vmgenid.base - ranges[i].base < ranges[i].size) {
            ck_assert_int_eq(ranges[i].type, PC_RESERVED);
            found++;
        }
    ck_assert_uint_eq(found, 1);
}
END_TEST

START_TEST(absent_devices_are_not_described)
{
    uint32_t size;
    const uint8_t *fadt;

    hw.serial.size = hw.pvpanic.size = hw.virtio_count = hw.rtc.size = hw.pm_timer.size = 0;
    hw.vmgenid.size = 0;
    ck_assert_int_eq(acpi_build(mem, &hw), 0);
    fadt = find("FACP", &size);
    ck_assert_uint_eq(acpi_field(fadt, 109, 2), 0x24); /* no RTC, no VGA, no 8042 */
    ck_assert_uint_eq(acpi_field(fadt, 76, 4), 0);
    ck_assert_uint_eq(count_in_dsdt("RTC_", 4, NULL), 0);
    ck_assert_uint_eq(count_in_dsdt("LNRO0005", 8, NULL), 0);
    ck_assert_uint_eq(count_in_dsdt("QEMU0001", 8, NULL), 0);
    ck_assert_uint_eq(count_in_dsdt("COM1", 4, NULL), 0);
    ck_assert_uint_eq(count_in_dsdt("VGEN", 4, NULL), 0);
}
END_TEST

/* Nothing is written after the range, whatever its size. */
START_TEST(range_too_small_or_not_ram)
{
    uint8_t *room = guest_ptr(mem, ACPI_BASE, ACPI_SIZE);
    uint8_t untouched[4096];
    uint64_t size = 0;

    memset(untouched, 0xee, sizeof(untouched));
    for (int error = -ENOSPC; error == -ENOSPC; size++) {
        memcpy(room, untouched, sizeof(untouched));
        hw.acpi.size = size;
        error = acpi_build(mem, &hw);
        ck_assert(error == 0 || (error == -ENOSPC && logged("no room for ACPI tables")));
        ck_assert_mem_eq(room + size, untouched + size, 4096 - size);
    }
    ck_assert_uint_gt(size, 900);

    hw.acpi.base = 2 * MIB - size + 2; /* large enough, but one byte reaches past RAM */
    ck_assert_int_eq(acpi_build(mem, &hw), -EFAULT);
    ck_assert(logged("raise --memory"));
}
END_TEST

/* ACPI 6.3, 20.2.4: PkgLength takes as few bytes as possible and counts them, too. */
static const struct {
    size_t body;
    unsigned size;
} packages[] = {
    { 4, 1 }, { 62, 1 }, { 63, 2 }, { 64, 2 }, { 4093, 2 }, { 4094, 3 }, { 65000, 3 }
};

START_TEST(package_lengths)
{
    static uint8_t data[70000];
    struct buffer b = { .data = data, .size = sizeof(data) };
    size_t mark = aml_device(&b, "DEV_");
    size_t length;

    for (size_t i = 4; i < packages[_i].body; i++)
        buffer_put(&b, i, 1);
    aml_end(&b, mark);
    ck_assert_uint_eq(data[2] >> 6, packages[_i].size - 1);
    length = packages[_i].size == 1 ? data[2] : data[2] & 0xf;
    for (unsigned i = 1; i < packages[_i].size; i++)
        length |= (size_t)data[2 + i] << (8 * i - 4);
    ck_assert_uint_eq(length, packages[_i].body + packages[_i].size);
    ck_assert_uint_eq(b.used, 2 + length);
    ck_assert_mem_eq(data + 2 + packages[_i].size, "DEV_", 4);
    if (packages[_i].body > 4)
        ck_assert_uint_eq(data[b.used - 1], (packages[_i].body - 1) & 0xff);
}
END_TEST

static const struct {
    uint64_t value;
    const char *bytes;
    unsigned size;
} integers[] = {
    { 0, "\0", 1 },
    { 1, "\x01", 1 },
    { 2, "\x0a\x02", 2 },
    { 255, "\x0a\xff", 2 },
    { 256, "\x0b\x00\x01", 3 },
    { 65536, "\x0c\x00\x00\x01\x00", 5 },
    { 1ull << 32, "\x0e\x00\x00\x00\x00\x01\x00\x00\x00", 9 },
};

START_TEST(integers_of_every_size)
{
    uint8_t data[16];
    struct buffer b = { .data = data, .size = sizeof(data) };

    aml_name_integer(&b, "_UID", integers[_i].value);
    ck_assert_uint_eq(b.used, 5 + integers[_i].size);
    ck_assert_mem_eq(data, "\x08_UID", 5);
    ck_assert_mem_eq(data + 5, integers[_i].bytes, integers[_i].size);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("acpi");
    TCase *tests = tcase_create("acpi");

    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_add_loop_test(tests, every_checksum_and_length, 0, ARRAY_SIZE(machines));
    tcase_add_test(tests, clocks);
    tcase_add_test(tests, power_off_and_reset_have_registers);
    tcase_add_loop_test(tests, cpus_by_xapic_and_x2apic, 0, ARRAY_SIZE(machines));
    tcase_add_test(tests, devices_in_the_order_given);
    tcase_add_test(tests, generation_id_and_its_event);
    tcase_add_test(tests, generation_id_is_not_in_ram);
    tcase_add_test(tests, absent_devices_are_not_described);
    tcase_add_test(tests, range_too_small_or_not_ram);
    tcase_add_loop_test(tests, package_lengths, 0, ARRAY_SIZE(packages));
    tcase_add_loop_test(tests, integers_of_every_size, 0, ARRAY_SIZE(integers));
    suite_add_tcase(suite, tests);
    return unit_run(suite);
}
