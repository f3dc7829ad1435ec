/* SPDX-License-Identifier: MIT */
#ifndef DEVICES_VIRTIO_MMIO_H
#define DEVICES_VIRTIO_MMIO_H

#include <stdint.h>

#include "vmm/core/bus.h"
#include "vmm/core/device.h"
#include "vmm/core/irq.h"

/*
 * Virtio over MMIO, version 2 (virtio 1.2, 4.2): decodes a register access and calls virtio.c.
 *
 * What the registers say lies in a page of memory that the machine may show to the guest read-only:
 * reading a register is then an ordinary load, and only writes exit. Of those, the two that a
 * driver makes at every request end in the kernel: QueueNotify, and InterruptACK of a used buffer.
 */
struct virtio_device;
struct virtio_mmio;

#define VIRTIO_MMIO_SIZE 0x200u /* bytes of registers */

/*
 * Takes `virtio` over on success. Interrupts are edges on `gsi`. `shown` is where what the
 * registers say is kept: VIRTIO_MMIO_SIZE zeroed, aligned bytes that outlive the device. Before the
 * loop of `virtio` runs. Prints why it failed; -errno.
 */
int virtio_mmio_create(struct virtio_mmio **ret, struct virtio_device *virtio, uint64_t base,
                       uint32_t gsi, const struct wiring *wiring, void *shown);

struct device *virtio_mmio_device(struct virtio_mmio *mmio);
struct io_region *virtio_mmio_region(struct virtio_mmio *mmio);

#endif
