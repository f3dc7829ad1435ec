/* SPDX-License-Identifier: MIT */
#ifndef VMM_MACHINE_MACHINE_H
#define VMM_MACHINE_MACHINE_H

#include "devices/virtio/console.h"
#include "firmware/hardware.h"
#include "firmware/image.h"
#include "vmm/core/bus.h"
#include "vmm/core/event.h"
#include "vmm/kvm/vm.h"

/*
 * The whole guest machine: what it is made of, in the order it is built. Everything the host has
 * to give (files, sockets, threads) is taken by machine_create(), before the first vCPU runs.
 */
struct config;
struct device;
struct loop;
struct terminal;

struct machine {
    const struct config *config;
    struct hardware hardware;
    struct event_sink events;
    struct timeline timeline;
    struct loop *loop; /* the main thread's: terminals and slow devices */

    struct guest_memory *memory;
    struct bus mmio, ports;
    struct vm vm;
    struct image kernel, initrd;
    struct image dtb; /* aarch64: the user's own tree */
    char *cmdline;    /* what the kernel is told: the user's words, or the default */

    struct terminal *serial, *console;              /* NULL: not there */
    int serial_fd, console_fd;                      /* files opened for them, or -1 */
    struct terminal *streams[VIRTIO_CONSOLE_PORTS]; /* of the configured ports */
    unsigned stream_count;
    struct device *devices; /* the last one added first */
    void *power_button;     /* the architecture's */
    struct loop *device_loops[HARDWARE_MAX_VIRTIO];
    unsigned device_loop_count;
};

/* What the configuration describes, without touching the host: for --dry-run. Prints; -errno. */
int machine_describe(struct machine *machine, const struct config *config);
void machine_print(const struct machine *machine);

/* What a machine needs of whoever runs it. */
struct machine_host {
    struct loop *loop;         /* the main loop: terminals and slow devices */
    struct event_sink events;  /* what the guest does */
    void (*quit)(void *owner); /* on the loop: the user leaves */
    void *owner;
    bool interrupts; /* see struct terminal_config */
};

/*
 * Builds what machine_describe() described. Prints what went wrong; -errno. machine_destroy()
 * follows in any case.
 */
int machine_create(struct machine *machine, const struct machine_host *host);
void machine_destroy(struct machine *machine);

/* The steps of its life, which lifecycle.c takes. */

/* Loads the guest and lets the vCPUs go. Prints; -errno. */
int machine_start(struct machine *machine);

/* vm_park() and vm_resume(); vm_find_busy(), without a name if nothing is. */
void machine_park(struct machine *machine);
void machine_resume(struct machine *machine);
bool machine_is_busy(struct machine *machine, char *name, size_t size);
int machine_parked_fd(const struct machine *machine); /* vm->all_parked */

/* Input and other calls of the consoles are held back, or come again. On the main loop. */
void machine_pause_consoles(struct machine *machine);
void machine_resume_consoles(struct machine *machine);

/*
 * With the vCPUs parked, brings every device to rest. -ETIMEDOUT, and *ret_busy names the device,
 * if one does not get there by `deadline_ns`; then all go on. Not on a loop's thread.
 */
int machine_pause_devices(struct machine *machine, uint64_t deadline_ns, const char **ret_busy);
void machine_resume_devices(struct machine *machine);

/* Ends the vCPUs: machine_start() makes new ones. */
void machine_stop(struct machine *machine);

/*
 * After machine_stop(): devices and memory as after power-on, so that machine_start() or
 * machine_destroy() can follow. Waits for the devices' I/O, which a slow disk can make long: not on
 * a loop's thread.
 */
void machine_reset(struct machine *machine);

/* Asks the guest to power off. Main loop. */
void machine_press_power_button(struct machine *machine);

/* Calls fn(terminal) for each there is. */
void machine_each_terminal(const struct machine *machine, void (*fn)(struct terminal *terminal));

/* Of what ports said something could not be written, although there may be somebody to read it. */
bool machine_lost_output(const struct machine *machine);

/* For the architecture: onto a bus and into the list, which destroys it in the end. -errno. */
int machine_add_device(struct machine *machine, struct device *device, struct bus *bus,
                       struct io_region *region);

/* The same for a virtio device, at `place`; `loop` is the device's. Destroys it if that fails. */
int machine_add_virtio(struct machine *machine, const struct hardware_device *place,
                       struct virtio_device *virtio, struct loop *loop);

#endif
