/* SPDX-License-Identifier: MIT */
#ifndef DEVICES_VIRTIO_MMIO_H
#define DEVICES_VIRTIO_MMIO_H

#include <stdint.h>

#include "vmm/bus.h"
#include "vmm/device.h"
#include "vmm/irq.h"

/*
 * Virtio over MMIO, version 2 (virtio 1.2, 4.2): decodes a register access and calls virtio.c.
 * What a driver touches at every interrupt, InterruptStatus and InterruptACK, is one atomic word.
 */
struct virtio_device;
struct virtio_mmio;

#define VIRTIO_MMIO_SIZE 0x200u /* bytes of registers */

/* Takes `virtio` over on success. Interrupts are edges on `gsi`. Prints why it failed; -errno. */
int virtio_mmio_create(struct virtio_mmio **ret, struct virtio_device *virtio, uint64_t base,
                       uint32_t gsi, const struct wiring *wiring);

struct device *virtio_mmio_device(struct virtio_mmio *mmio);
struct io_region *virtio_mmio_region(struct virtio_mmio *mmio);

#endif
