/* SPDX-License-Identifier: MIT */
#ifndef FIRMWARE_HARDWARE_H
#define FIRMWARE_HARDWARE_H

#include <stdbool.h>
#include <stdint.h>

#include "vmm/core/memory.h"

/*
 * What a machine tells its guest about itself, whatever the form: ACPI tables, a device tree, an
 * e820 map. Filled by the machine as it is built; also what --dry-run prints.
 */

#define HARDWARE_MAX_VIRTIO 16

struct hardware_range {
    gpa_t base;
    uint64_t size; /* bytes */
};

/* A window of registers with an interrupt. size 0: the machine has none. */
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
    struct hardware_range acpi;      /* x86: where the tables lie, the RSDP at its start */
    struct hardware_range fdt;       /* aarch64: room for the device tree */
    gpa_t lapic, ioapic;             /* x86 */
    unsigned gic_version;            /* aarch64: 2 or 3 */
    struct hardware_device gic;      /* aarch64: the distributor */
    struct hardware_device gic_cpus; /* redistributors, or version 2: CPU interfaces */
    bool pmu;                        /* aarch64: performance counters */
    struct hardware_device serial;   /* x86: ports, 16550; aarch64: PL011 */
    struct hardware_device rtc;      /* aarch64: PL031 */
    struct hardware_device power;    /* x86: acpi_registers.h; aarch64: virtio-input */
    struct hardware_device pvpanic;
    struct hardware_device debug_exit;
    struct hardware_range virtio_pages; /* where the registers of any virtio device lie */
    unsigned virtio_count;
    struct hardware_device virtio[HARDWARE_MAX_VIRTIO]; /* in the order the guest shall find them */
};

#endif
