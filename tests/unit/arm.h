/* SPDX-License-Identifier: MIT */
#ifndef TESTS_UNIT_ARM_H
#define TESTS_UNIT_ARM_H

#include "arch/aarch64/layout.h"
#include "firmware/hardware.h"
#include "tests/unit/firmware.h"

/* Describes a machine, for tests of Arm's image loader and device tree. */
static inline struct hardware made_arm(uint64_t memory, unsigned cpus, unsigned virtio)
{
    struct hardware hw = {
        .cpus = cpus,
        .ram_ranges = 1,
        .ram = { { RAM_BASE, memory } },
        .fdt = { align_down(RAM_BASE + memory - FDT_SIZE, FDT_SIZE), FDT_SIZE - VMGENID_PAGE },
        .gic_version = 3,
        .gic = { .base = GIC_DIST_BASE, .size = GIC_DIST_SIZE },
        .gic_cpus = { .base = GIC_REDIST_BASE, .size = (uint64_t)cpus * GIC_REDIST_SIZE },
        .pmu = true,
        .serial = { .base = PL011_BASE, .size = 0x1000, .gsi = PL011_SPI },
        .rtc = { .base = PL031_BASE, .size = 0x1000 },
        .pvpanic = { .base = PVPANIC_BASE, .size = 1 },
        .power = { .base = VIRTIO_MMIO_BASE + HARDWARE_MAX_VIRTIO * VIRTIO_MMIO_STRIDE,
                   .size = VIRTIO_MMIO_STRIDE,
                   .gsi = VIRTIO_SPI_FIRST + HARDWARE_MAX_VIRTIO },
        .virtio_count = virtio,
    };

    hw.vmgenid = (struct hardware_device){ .base = hw.fdt.base + hw.fdt.size,
                                           .size = VMGENID_PAGE,
                                           .gsi = VMGENID_SPI };
    for (unsigned i = 0; i < virtio; i++)
        hw.virtio[i] =
            (struct hardware_device){ .base = VIRTIO_MMIO_BASE + (uint64_t)i * VIRTIO_MMIO_STRIDE,
                                      .size = VIRTIO_MMIO_STRIDE,
                                      .gsi = VIRTIO_SPI_FIRST + i };
    return hw;
}

/* Writes the 64-byte header of an arm64 Image (Documentation/arm64/booting.rst). */
static inline void made_arm64_header(uint8_t *file, uint64_t offset, uint64_t size, uint64_t flags)
{
    const uint64_t words[] = { offset, size, flags };

    memset(file, 0, 64);
    memcpy(file + 8, words, sizeof(words));
    memcpy(file + 56, "ARM\x64", 4);
}

#endif
