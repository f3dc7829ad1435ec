/* SPDX-License-Identifier: MIT */
#ifndef FIRMWARE_HARDWARE_H
#define FIRMWARE_HARDWARE_H

#include <stdbool.h>
#include <stdint.h>

#include "vmm/core/memory.h"

/*
 * The description of a machine from which ACPI tables, the device tree and the e820 map are
 * made. Filled in while the machine is built; --dry-run prints it, too.
 */

#define HARDWARE_MAX_VIRTIO 17

struct hardware_range {
    gpa_t base;
    uint64_t size; /* bytes */
};

/* A register region with an interrupt. size 0: the machine does not have this device. */
struct hardware_device {
    uint64_t base; /* a guest-physical address, or an x86 port */
    uint64_t size; /* bytes */
    uint32_t gsi;
    char name[16]; /* "blk0" */
};

struct hardware {
    unsigned cpus;
    unsigned ram_ranges;
    struct hardware_range ram[2];
    struct hardware_range acpi;      /* x86: the ACPI tables, the RSDP first */
    struct hardware_range fdt;       /* aarch64: room for the device tree */
    gpa_t lapic, ioapic;             /* x86 */
    uint32_t tsc_khz;                /* x86: of the guest; 0: unknown */
    bool la57;                       /* x86: the guest's CPUs have five levels of page tables */
    unsigned gic_version;            /* aarch64: 2 or 3 */
    struct hardware_device gic;      /* aarch64: the distributor */
    struct hardware_device gic_cpus; /* redistributors, or version 2: CPU interfaces */
    bool pmu;                        /* aarch64: performance counters */
    struct hardware_device serial;   /* x86: ports, 16550; aarch64: PL011 */
    struct hardware_device rtc;      /* x86: ports, MC146818; aarch64: PL031 */
    struct hardware_device power;    /* x86: acpi_registers.h; aarch64: virtio-input */
    struct hardware_device pm_timer; /* x86: a port, the ACPI PM timer */
    struct hardware_device pvpanic;
    struct hardware_device vmgenid; /* RAM that is not the guest's; begins with the ID */
    struct hardware_device debug_exit;
    struct hardware_range virtio_pages; /* the registers of all virtio devices */
    unsigned virtio_count;
    struct hardware_device virtio[HARDWARE_MAX_VIRTIO]; /* in the guest's probe order */
};

#endif
