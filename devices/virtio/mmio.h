/* SPDX-License-Identifier: MIT */
#ifndef DEVICES_VIRTIO_MMIO_H
#define DEVICES_VIRTIO_MMIO_H

#include <stdint.h>

#include "vmm/core/bus.h"
#include "vmm/core/device.h"
#include "vmm/core/irq.h"

/*
 * Virtio over MMIO, version 2 (virtio 1.2, 4.2): decodes register accesses and calls virtio.c.
 *
 * The values of all readable registers lie in a shadow page, which the machine may map read-only
 * into the guest: then reading a register is an ordinary load and only writes exit. The two writes
 * a driver makes for each request do not exit either: QueueNotify, and InterruptACK of used buffers
 * are ioeventfds. Interrupts are an irqfd.
 */
struct virtio_device;
struct virtio_mmio;

#define VIRTIO_MMIO_REGISTERS_SIZE 0x200u /* bytes of registers */

/*
 * Takes ownership of `virtio` on success. Interrupts are edges on `gsi`. `shadow` is the start of
 * the device's shadow page: VIRTIO_MMIO_REGISTERS_SIZE zeroed bytes that outlive it. Call it before
 * the loop of `virtio` runs. On failure prints why and returns -errno.
 */
int virtio_mmio_create(struct virtio_mmio **ret, struct virtio_device *virtio, uint64_t base,
                       uint32_t gsi, const struct notifiers *notifiers, void *shadow);

struct device *virtio_mmio_device(struct virtio_mmio *mmio);
struct io_region *virtio_mmio_region(struct virtio_mmio *mmio);

#endif
