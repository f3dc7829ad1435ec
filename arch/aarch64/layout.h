/* SPDX-License-Identifier: MIT */
#ifndef ARCH_AARCH64_LAYOUT_H
#define ARCH_AARCH64_LAYOUT_H

#include "vmm/core/base.h"

/*
 * Guest-physical addresses:
 *
 *     0x0000_0000  unmapped, to catch null pointers
 *     0x0800_0000  GIC: distributor
 *     0x0801_0000  GIC, version 2: CPU interface
 *     0x0900_0000  PL011: the serial port
 *     0x0901_0000  PL031: the clock
 *     0x0902_0000  pvpanic
 *     0x0903_0000  debug exit
 *     0x0a00_0000  GIC, version 3: redistributors, 128 KiB a CPU
 *     0x0e00_0000  virtio-mmio, a page each; the last one is the power button
 *     0x4000_0000  1 GiB: RAM, with the kernel at its start
 *            ...   initrd, just below the device tree
 *            ...   device tree, in the last 2 MiB of RAM that the kernel can reach; the generation
 *                  ID (vmgenid) is in the last 64 KiB of these
 *
 * Interrupts: SPI 1 PL011 · 2... virtio · 31 vmgenid
 */
#define GIC_DIST_BASE   0x08000000
#define GIC_DIST_SIZE   0x10000
#define GIC_CPU_BASE    0x08010000
#define GIC_CPU_SIZE    0x2000
#define GIC_REDIST_BASE 0x0a000000
#define GIC_REDIST_SIZE 0x20000 /* each */
#define GIC_SPIS        32

#define PL011_BASE      0x09000000
#define PL031_BASE      0x09010000
#define PVPANIC_BASE    0x09020000
#define DEBUG_EXIT_BASE 0x09030000

#define VIRTIO_MMIO_BASE   0x0e000000
#define VIRTIO_PAGES_SIZE  0x20000 /* whole pages of any host */
#define VIRTIO_MMIO_STRIDE 0x1000  /* each */

#define RAM_BASE GIB

/* The largest device tree a kernel accepts; it must not cross a multiple of this either. */
#define FDT_SIZE (2 * MIB)

/* A guest's largest page: it must be no RAM. At the end of the device tree's 2 MiB. */
#define VMGENID_PAGE (64 * KIB)

/* Kernel and initrd must lie in the same 32 GiB (Documentation/arm64/booting). */
#define BOOT_WINDOW (32 * GIB)

#define PL011_SPI        1
#define VIRTIO_SPI_FIRST 2
#define VMGENID_SPI      31

#define MAX_CPUS    512 /* their redistributors fit below the virtio pages */
#define MAX_CPUS_V2 8

#endif
