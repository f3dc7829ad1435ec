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
 * What the driver reads of the registers lies in a shadow page that the machine may map read-only
 * into the guest: reading a register is then an ordinary load, and only writes exit. Of those, the
 * two that a driver makes at every request end in the kernel: QueueNotify, and InterruptACK of used
 * buffers are ioeventfds.
 */
struct virtio_device;
struct virtio_mmio;

#define VIRTIO_MMIO_SIZE 0x200u /* bytes of registers */

/*
 * Takes `virtio` over on success. Interrupts are edges on `gsi`. `shadow` is its part of the shadow
 * page: VIRTIO_MMIO_SIZE zeroed, aligned bytes that outlive the device. Before the loop of `virtio`
 * runs. Prints why it failed; -errno.
 */
int virtio_mmio_create(struct virtio_mmio **ret, struct virtio_device *virtio, uint64_t base,
                       uint32_t gsi, const struct notifiers *notifiers, void *shadow);

struct device *virtio_mmio_device(struct virtio_mmio *mmio);
struct io_region *virtio_mmio_region(struct virtio_mmio *mmio);

#endif
