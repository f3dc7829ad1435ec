/* SPDX-License-Identifier: MIT */
#ifndef VMM_BOARD_BOARD_H
#define VMM_BOARD_BOARD_H

#include "devices/virtio/console.h"
#include "firmware/hardware.h"
#include "vmm/core/bus.h"
#include "vmm/core/event.h"
#include "vmm/core/irq.h"
#include "vmm/core/memory.h"

/*
 * The main board: what the guest finds on its buses, and where. It knows nothing of KVM: what it
 * needs of a virtual machine is given to it, so a test can build a whole board without one.
 */
struct chip;
struct config;
struct device;
struct loop;
struct terminal;
struct terminal_config;

/* What the board is built on. Copied. */
struct board_host {
    struct loop *loop; /* the main thread's: terminals and slow devices */
    struct guest_memory *memory;
    struct event_sink events;
    struct irq_line irq;        /* of any pin */
    struct notifiers notifiers; /* for virtio devices */
};

struct board {
    const struct config *config;
    struct hardware hardware;
    struct board_host host;
    struct bus mmio, ports;
    struct ram_region shadow; /* the shadow pages of virtio registers; size 0 until there is one */
    struct device *devices;   /* the last one added first */
    struct loop *device_loops[HARDWARE_MAX_VIRTIO];
    unsigned device_loop_count;

    /* consoles.c */
    struct terminal *serial, *console;              /* NULL: not there */
    int serial_fd, console_fd;                      /* files opened for them, or -1 */
    const char *console_name;                       /* of the virtio console's device, or NULL */
    struct terminal *streams[VIRTIO_CONSOLE_PORTS]; /* of the configured ports */
    unsigned stream_count;

    /* Asks the guest to power off: the architecture's. Main loop. */
    void (*press_power_button)(void *owner);
    void *power_button;
};

/* What the configuration describes, without touching the host. Prints; -errno. */
int board_describe(struct board *board, const struct config *config);

/*
 * Builds what board_describe() described, with terminals like `terminal`. Prints what went wrong;
 * -errno. board_destroy() follows in any case.
 */
int board_create(struct board *board, const struct board_host *host,
                 const struct terminal_config *terminal);

/* Ends the devices' threads: afterwards their counters may be read, and board_destroy() follows. */
void board_join(struct board *board);
/* Frees all, having written out what the consoles still hold. Accepts a half-built board. */
void board_destroy(struct board *board);

/* Every device as after power-on. As struct device_ops has it: not on a loop's thread. */
void board_reset(struct board *board);

/*
 * With the vCPUs parked, brings every device to rest. -ETIMEDOUT, and *ret_busy names the device,
 * if one does not get there by `deadline_ns`; then all go on. Not on a loop's thread.
 */
int board_pause(struct board *board, uint64_t deadline_ns, const char **ret_busy);
void board_resume(struct board *board);

/* Saves or loads all devices of a paused board, a section each. */
struct state;
void board_state(struct board *board, struct state *s);

/* For parts.c and the architecture, while the board is built. */

/* The line of an interrupt pin. */
struct irq_line board_irq(const struct board *board, uint32_t gsi);

/* A chip onto `bus` and into the list, which destroys it in the end. NULL: -ENOMEM. Prints. */
int board_add_chip(struct board *board, struct chip *chip, struct bus *bus);

/* The same for a virtio device, at `place`; `loop` is the device's. Destroys it if that fails. */
int board_add_virtio(struct board *board, const struct hardware_device *place,
                     struct virtio_device *virtio, struct loop *loop);

/* A loop for a device with a fast data path; NULL: printed. */
struct loop *board_add_loop(struct board *board);

#endif
