/* SPDX-License-Identifier: MIT */
#ifndef TESTS_UNIT_PC_H
#define TESTS_UNIT_PC_H

#include "arch/x86_64/layout.h"
#include "firmware/hardware.h"
#include "firmware/tables/acpi_registers.h"
#include "tests/unit/firmware.h"

/* The hardware description that tests of a PC's loaders and tables use, and a parser of ACPI. */

/* A usual machine with `memory` bytes of RAM: a description only. */
static inline struct hardware made_hardware(uint64_t memory, unsigned cpus, unsigned virtio)
{
    struct hardware hw = {
        .cpus = cpus,
        .ram_ranges = memory > PC_LOW_RAM_END ? 2 : 1,
        .ram = { { 0, memory > PC_LOW_RAM_END ? PC_LOW_RAM_END : memory },
                 { HIGH_RAM_BASE, memory > PC_LOW_RAM_END ? memory - PC_LOW_RAM_END : 0 } },
        .acpi = { ACPI_BASE, ACPI_SIZE },
        .lapic = LAPIC_BASE,
        .ioapic = IOAPIC_BASE,
        .serial = { .base = COM1_PORT, .size = COM1_SIZE, .gsi = COM1_GSI },
        .power = { .base = POWER_PORT, .size = ACPI_POWER_SIZE, .gsi = POWER_GSI },
        .rtc = { .base = RTC_PORT, .size = 2 },
        .pm_timer = { .base = PM_TIMER_PORT, .size = 4 },
        .pvpanic = { .base = PVPANIC_PORT, .size = 1 },
        .vmgenid = { .base = VMGENID_BASE, .size = 16, .gsi = VMGENID_GSI },
        .virtio_count = virtio,
    };

    for (unsigned i = 0; i < virtio; i++)
        hw.virtio[i] =
            (struct hardware_device){ .base = VIRTIO_MMIO_BASE + (uint64_t)i * VIRTIO_MMIO_STRIDE,
                                      .size = VIRTIO_MMIO_STRIDE,
                                      .gsi = virtio_gsi(i) };
    return hw;
}

/* The ACPI table at `gpa`, with its size in bytes; NULL if there is none. */
static inline const uint8_t *acpi_at(const struct guest_memory *mem, gpa_t gpa, uint32_t *ret_size)
{
    const uint8_t *header = guest_ptr(mem, gpa, 36);

    if (!header)
        return NULL;
    memcpy(ret_size, header + 4, sizeof(*ret_size));
    return guest_ptr(mem, gpa, *ret_size);
}

static inline uint64_t acpi_field(const uint8_t *table, size_t offset, unsigned size)
{
    uint64_t value = 0;

    memcpy(&value, table + offset, size);
    return value;
}

/* Finds a table by its signature, from the RSDP on, the DSDT through the FADT; NULL if none. */
static inline const uint8_t *acpi_find(const struct guest_memory *mem, gpa_t rsdp,
                                       const char *signature, uint32_t *ret_size)
{
    const uint8_t *root = guest_ptr(mem, rsdp, 36);
    bool dsdt = !strcmp(signature, "DSDT");
    uint32_t xsdt_size = 0;
    const uint8_t *xsdt = root ? acpi_at(mem, acpi_field(root, 24, 8), &xsdt_size) : NULL;

    if (!strcmp(signature, "XSDT")) {
        *ret_size = xsdt_size;
        return xsdt;
    }
    for (uint32_t at = 36; at + 8 <= xsdt_size; at += 8) {
        const uint8_t *table = acpi_at(mem, acpi_field(xsdt, at, 8), ret_size);

        if (table && !memcmp(table, dsdt ? "FACP" : signature, 4))
            return dsdt ? acpi_at(mem, acpi_field(table, 140, 8), ret_size) : table;
    }
    return NULL;
}

#endif
