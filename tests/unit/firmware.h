/* SPDX-License-Identifier: MIT */
#ifndef TESTS_UNIT_FIRMWARE_H
#define TESTS_UNIT_FIRMWARE_H

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "arch/x86_64/layout.h"
#include "firmware/hardware.h"
#include "firmware/image.h"

/* What tests of loaders and tables share: files made up in memory, a machine, what was logged. */

/* A file with these bytes; ends with the process. */
static inline struct image made_image(const void *bytes, size_t size)
{
    struct image image = { .fd = memfd_create("made", MFD_CLOEXEC), .path = "made", .size = size };

    if (image.fd < 0 || pwrite(image.fd, bytes, size, 0) != (ssize_t)size)
        abort();
    return image;
}

static inline struct guest_memory *made_memory(uint64_t size)
{
    struct guest_memory *mem = guest_memory_create();

    if (!mem || guest_memory_add(mem, 0, size) < 0)
        abort();
    return mem;
}

/* The usual machine with that much RAM, told but not made. */
static inline struct hardware made_hardware(uint64_t memory, unsigned cpus, unsigned virtio)
{
    struct hardware hw = {
        .cpus = cpus,
        .ram_ranges = memory > LOW_RAM_END ? 2 : 1,
        .ram = { { 0, memory > LOW_RAM_END ? LOW_RAM_END : memory },
                 { HIGH_RAM_BASE, memory > LOW_RAM_END ? memory - LOW_RAM_END : 0 } },
        .acpi = { ACPI_BASE, ACPI_SIZE },
        .lapic = LAPIC_BASE,
        .ioapic = IOAPIC_BASE,
        .serial = { .base = COM1_PORT, .size = COM1_SIZE, .gsi = COM1_GSI },
        .power = { .base = POWER_PORT, .size = POWER_SIZE, .gsi = POWER_GSI },
        .pvpanic = { .base = PVPANIC_PORT, .size = 1 },
        .virtio_count = virtio,
    };

    for (unsigned i = 0; i < virtio; i++)
        hw.virtio[i] =
            (struct hardware_device){ .base = VIRTIO_MMIO_BASE + (uint64_t)i * VIRTIO_MMIO_STRIDE,
                                      .size = VIRTIO_MMIO_STRIDE,
                                      .gsi = virtio_gsi(i) };
    return hw;
}

/* From now on stderr is kept; logged() says whether exactly one line came since, with `words`. */
static inline void log_capture(void)
{
    int fd = memfd_create("log", MFD_CLOEXEC | MFD_ALLOW_SEALING);

    if (fd < 0 || dup2(fd, STDERR_FILENO) < 0)
        abort();
    close(fd);
}

static inline bool logged(const char *words)
{
    char text[4096] = "";
    const char *end;

    if (pread(STDERR_FILENO, text, sizeof(text) - 1, 0) < 0 || ftruncate(STDERR_FILENO, 0) < 0 ||
        lseek(STDERR_FILENO, 0, SEEK_SET) < 0)
        abort();
    end = strchr(text, '\n');
    return strstr(text, words) && end && end[1] == '\0';
}

/* ACPI tables as a guest finds them. Each returns NULL where it finds none. */
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

/* By signature, from the RSDP on; the DSDT by way of the FADT. */
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
