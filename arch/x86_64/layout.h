/* SPDX-License-Identifier: MIT */
#ifndef ARCH_X86_64_LAYOUT_H
#define ARCH_X86_64_LAYOUT_H

#include "firmware/boot/pc.h"
#include "vmm/core/base.h"

/*
 * Guest-physical addresses:
 *
 *     0x0000_0472  reset flag of the BIOS data area, written by the guest
 *     0x0000_0500  GDT                        written by boot.c for the kernel's
 *     0x0000_6000  setup data (RNG seed)      entry; ordinary RAM for the guest
 *     0x0000_7000  zero page, or PVH start    afterwards
 *     0x0000_8000  stack, up to 0x8ff0
 *     0x0000_9000  page tables: PML4, PDPT, four directories, PML5
 *     0x0002_0000  command line
 *     0x000a_0000  not reported as RAM, as on any PC
 *     0x000e_0000  ACPI: RSDP, then the tables
 *     0x000f_f000  generation ID (vmgenid)
 *     0x000f_fff0  real-mode reset vector: a few instructions that reset the machine
 *     0x0010_0000  RAM: kernel, and at its end the initrd
 *            ...
 *     0xc000_0000  3 GiB: RAM ends here at the latest
 *     0xc000_0000  virtio-mmio, a page each
 *     0xfec0_0000  I/O APIC
 *     0xfee0_0000  local APIC
 *     0xfffb_c000  KVM's identity page table and TSS, for CPUs without unrestricted guest
 *   0x1_0000_0000  4 GiB: the rest of RAM
 *
 * Ports: 0x40 i8254 · 0x64 i8042 · 0x70 RTC · 0x92 reset · 0xf4 debug exit · 0x3f8 COM1 ·
 *        0x505 pvpanic · 0x600 power · 0x608 PM timer
 */
#define RESET_FLAG       0x472
#define RESET_FLAG_WARM  0x1234
#define GDT_BASE         0x500
#define GDT_SIZE         (6 * 8)
#define SETUP_DATA_BASE  0x6000
#define BOOT_PARAMS_BASE 0x7000
#define BOOT_STACK_TOP   0x8ff0
#define PAGE_TABLES_BASE 0x9000 /* the PML4: what CR3 holds with four levels */
#define PML5_BASE        0xf000 /* ... with five */
#define CMDLINE_BASE     0x20000
#define CMDLINE_SIZE     (64 * KIB)
#define ACPI_BASE        0xe0000
#define ACPI_SIZE        (64 * KIB)
#define VMGENID_BASE     0xff000
#define RESET_VECTOR     0xffff0

#define HIGH_RAM_BASE      (4 * GIB)
#define VIRTIO_MMIO_BASE   PC_LOW_RAM_END
#define VIRTIO_PAGES_SIZE  0x11000
#define VIRTIO_MMIO_STRIDE 0x1000 /* each */
#define IOAPIC_BASE        0xfec00000
#define LAPIC_BASE         0xfee00000
#define KVM_IDENTITY_BASE  0xfffbc000
#define KVM_TSS_BASE       0xfffbd000

/* Selectors in the GDT, as the Linux boot protocol requires them. */
#define BOOT_CS  0x10
#define BOOT_DS  0x18
#define BOOT_TSS 0x20

#define I8254_PORT         0x40
#define I8042_COMMAND_PORT 0x64
#define RTC_PORT           0x70
#define PORT92_PORT        0x92
#define DEBUG_EXIT_PORT    0xf4
#define COM1_PORT          0x3f8
#define COM1_SIZE          8
#define PVPANIC_PORT       0x505
#define POWER_PORT         0x600
#define PM_TIMER_PORT      0x608

#define COM1_GSI         4
#define POWER_GSI        9
#define VIRTIO_GSI_FIRST 5
#define VIRTIO_GSIS      17 /* the I/O APIC's pins from 5 to 22, without 9 */
#define VMGENID_GSI      23

/* The interrupt of the n-th virtio device, n < VIRTIO_GSIS. */
static inline unsigned virtio_gsi(unsigned n)
{
    unsigned gsi = VIRTIO_GSI_FIRST + n;

    return gsi < POWER_GSI ? gsi : gsi + 1;
}

#endif
