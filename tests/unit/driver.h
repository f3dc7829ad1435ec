/* SPDX-License-Identifier: MIT */
#ifndef TESTS_UNIT_DRIVER_H
#define TESTS_UNIT_DRIVER_H

#include <stdbool.h>
#include <stdint.h>

#include "devices/virtio/virtio.h"
#include "vmm/core/loop.h"
#include "vmm/core/memory.h"

/*
 * A virtio driver, correct or hostile as a test wants it, with a transport of its own: RAM at 0,
 * rings at fixed addresses, raw descriptors. The loop has no thread: it runs on the test's, in
 * driver_wait() or loop_turn().
 */
#define DRIVER_RAM        (4u << 20) /* bytes, from address 0 */
#define DRIVER_BUFFERS    0x100000u  /* RAM from here on is for the tests */
#define DRIVER_QUEUE_SIZE 64

enum { DRIVER_NEXT = 1, DRIVER_WRITE = 2, DRIVER_INDIRECT = 4 }; /* descriptor flags */

struct driver {
    struct guest_memory *mem;
    struct loop *loop;
    struct virtio_device *device;
    unsigned queue_size;                   /* DRIVER_QUEUE_SIZE, or less if the device says so */
    unsigned interrupts;                   /* so far */
    unsigned config_changes;               /* so far */
    int call_fd[VIRTIO_MAX_QUEUES];        /* those in use by the device, or 0 */
    uint16_t avail_idx[VIRTIO_MAX_QUEUES]; /* as last published */
    uint16_t used_seen[VIRTIO_MAX_QUEUES];
    uint16_t kicked[VIRTIO_MAX_QUEUES]; /* avail_idx at the last kick */
};

/* Call driver_init(), create the device with d->mem and d->loop, then call driver_start(). */
void driver_init(struct driver *d);
void driver_find(struct driver *d, struct virtio_device *device); /* driver_start() does it */
/* What a driver writes to both halves of a ring's address. */
void driver_set_address(struct virtio_device *device, unsigned queue, enum virtio_ring ring,
                        uint64_t addr);
/* Negotiates `features` (VERSION_1 is added) and starts all queues; false if refused. */
bool driver_start(struct driver *d, struct virtio_device *device, uint64_t features);
/*
 * Continues `old`'s driver on the device of `d`, which has loaded the state of `old`'s device.
 * Copies all guest memory.
 */
void driver_adopt(struct driver *d, const struct driver *old);
void driver_finish(struct driver *d); /* destroys device, loop and memory */

/* Writes descriptor `index` of `queue`'s table. */
void driver_describe(struct driver *d, unsigned queue, unsigned index, uint64_t addr, uint32_t len,
                     uint16_t flags, uint16_t next);
/* The same for an indirect table at any address. */
void driver_describe_at(struct driver *d, uint64_t table, unsigned index, uint64_t addr,
                        uint32_t len, uint16_t flags, uint16_t next);
/* Adds a chain's head to the available ring. Does not kick: see driver_kick(). */
void driver_publish(struct driver *d, unsigned queue, uint16_t head);
void driver_set_avail_idx(struct driver *d, unsigned queue, uint16_t idx); /* any index */
void driver_kick(struct driver *d, unsigned queue);
/* driver_kick() as real drivers do it: with EVENT_IDX only if avail_event asks for it. */
void driver_kick_if_asked(struct driver *d, unsigned queue);

/* Runs the loop until one more chain is used; false if none is within 30 s. */
bool driver_wait(struct driver *d, unsigned queue, uint32_t *ret_head, uint32_t *ret_written);
/* The same with another time limit. */
bool driver_wait_ms(struct driver *d, unsigned queue, unsigned ms, uint32_t *ret_head,
                    uint32_t *ret_written);
bool driver_broken(const struct driver *d); /* DEVICE_NEEDS_RESET is set */

/* Guest RAM at `addr`. */
void *driver_ram(const struct driver *d, uint64_t addr);

#endif
