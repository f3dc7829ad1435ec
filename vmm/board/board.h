/* SPDX-License-Identifier: MIT */
#ifndef VMM_BOARD_BOARD_H
#define VMM_BOARD_BOARD_H

#include "devices/fs/budget.h"
#include "devices/virtio/console.h"
#include "firmware/hardware.h"
#include "vmm/core/bus.h"
#include "vmm/core/event.h"
#include "vmm/core/irq.h"
#include "vmm/core/memory.h"

/*
 * The main board: buses, devices and consoles. It does not depend on KVM: interrupts and notifiers
 * are passed in, so a test can build a whole board without a virtual machine.
 */
struct block;
struct chip;
struct config;
struct device;
struct loop;
struct net;
struct share;
struct terminal;

/* What the board needs from its creator. Copied. */
struct board_host {
    struct loop *loop; /* the main loop: terminals and slow devices */
    struct guest_memory *memory;
    struct event_sink events;
    struct irq_line irq;        /* of any pin: see board_irq() */
    struct notifiers notifiers; /* for virtio devices */
};

/* A loop for one device. */
struct board_loop {
    struct loop *loop;
    const char *name;              /* of the device */
    void (*started)(void *device); /* called first on the loop's thread; or NULL */
    void *device;
};

struct board {
    const struct config *config;
    struct hardware hardware;
    struct board_host host;
    struct bus mmio, ports;
    struct ram_region shadow; /* shadow pages of all virtio devices; size 0: none yet */
    struct device *devices;   /* the one added last comes first */
    struct board_loop loops[HARDWARE_MAX_VIRTIO];
    unsigned loop_count;
    struct share *shares[HARDWARE_MAX_VIRTIO]; /* owned by their devices */
    unsigned share_count;
    struct block *disks[HARDWARE_MAX_VIRTIO]; /* likewise */
    unsigned disk_count;
    struct net *user_nets[HARDWARE_MAX_VIRTIO]; /* by NIC, started; others NULL */
    unsigned nics;                              /* how many of them belong to a device */
    struct share_budget share_budget;           /* of all shared directories */

    /* consoles.c */
    struct terminal *serial, *console;              /* or NULL */
    int serial_fd, console_fd;                      /* files opened for them, or -1 */
    const char *console_name;                       /* of the virtio console device, or NULL */
    struct terminal *streams[VIRTIO_CONSOLE_PORTS]; /* of --port */
    unsigned stream_count;

    /* Asks the guest to power off. Set by the architecture. On the main loop. */
    void (*press_power_button)(void *owner);
    void *power_button;

    struct chip *vmgenid; /* or NULL: the guest is not told of one */
};

/* Starts the devices' loops: until then there is one thread. Prints; -errno. */
int board_start(struct board *board);

/* Ends the devices' loops. Afterwards their counters may be read until board_destroy(). */
void board_join(struct board *board);
/* Drains the consoles and frees everything. Accepts a half-built board. */
void board_destroy(struct board *board);

/* Writes to RAM what devices have there, before a boot. */
void board_boot(struct board *board);

/* Resets every device, after the vCPU threads have ended or parked. Not on a loop's thread. */
void board_reset(struct board *board);

/*
 * Pauses every device. With the vCPUs parked; not on a loop's thread. If a device is not paused
 * when clock_now_ns() reaches `deadline_ns`: all devices resume, *ret_busy is its name; -ETIMEDOUT.
 */
int board_pause(struct board *board, uint64_t deadline_ns, const char **ret_busy);
void board_resume(struct board *board); /* on the main loop, or on board_pause()'s thread */

/* Saves all devices of a paused board, or loads them into a new or reset one: a section each. */
struct state;
void board_state(struct board *board, struct state *s);

/* For parts.c and the architecture, while the board is built. */

/* The interrupt line of `gsi`. */
struct irq_line board_irq(const struct board *board, uint32_t gsi);

/*
 * Maps a chip on `bus`, or on none: NULL. The board owns it, even on error. `chip` NULL: -ENOMEM.
 * Prints; -errno.
 */
int board_add_chip(struct board *board, struct chip *chip, struct bus *bus);

/*
 * Maps a virtio device at `place`. The board owns the device, even on error. Prints; -errno.
 */
int board_add_virtio(struct board *board, const struct hardware_device *place,
                     struct virtio_device *virtio);

/*
 * Creates a loop for the device `name`, which has a fast data path. The board owns it and starts it
 * later. Prints; NULL on error.
 */
struct board_loop *board_add_loop(struct board *board, const char *name);

#endif
