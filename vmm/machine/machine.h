/* SPDX-License-Identifier: MIT */
#ifndef VMM_MACHINE_MACHINE_H
#define VMM_MACHINE_MACHINE_H

#include <semaphore.h>
#include <stdbool.h>
#include <stddef.h>

#include "firmware/image.h"
#include "vmm/board/board.h"
#include "vmm/core/event.h"
#include "vmm/kvm/vm.h"
#include "vmm/machine/sandbox.h"

/*
 * The whole machine: a board, RAM, a KVM virtual machine and the images it boots. machine_create()
 * opens all host resources (files, sockets, threads), before the first vCPU runs.
 */
struct config;
struct loop;
struct snapshot;

struct machine {
    const struct config *config;
    struct timeline timeline;
    struct board board;
    struct guest_memory *memory;
    struct vm vm;
    struct image kernel, unpacked, initrd;
    struct image dtb;              /* aarch64: --dtb */
    struct snapshot *snapshot;     /* the first start restores it; NULL: boots */
    const struct snapshot *origin; /* what it was restored from; NULL: it has booted */
    bool no_images;                /* restored without its kernel: it cannot be reset */
    int page_map;                  /* for snapshot_save(), or -1 */
    struct sandbox sandbox;
    sem_t steps; /* of machine_start_devices(): the host is asked, devices are started */
    unsigned steps_awaited;
    bool devices_failed; /* valid with each */
    char *cmdline;       /* of the kernel: --cmdline or the default; owned */
};

/* Plans the machine of a configuration. Opens nothing, so it serves --dry-run. Prints; -errno. */
int machine_describe(struct machine *machine, const struct config *config);

/*
 * Before machine_create(): the machine does not boot but goes on from a snapshot, of which the
 * configuration has been loaded. `snap` must outlive the machine.
 */
void machine_restore(struct machine *machine, struct snapshot *snap);

/*
 * For --dry-run, instead of machine_create(): checks the kernel, the initrd, the device tree and
 * the command line by loading them. Needs no KVM. Prints; -errno.
 */
int machine_try_boot(struct machine *machine);

/* What a machine needs from its creator. Copied. */
struct machine_host {
    struct loop *loop;           /* the main loop: terminals and slow devices */
    struct event_sink events;    /* where guest events are reported */
    void (*quit)(void *owner);   /* on the loop: the user typed Ctrl-A x */
    void (*opened)(void *owner); /* by machine_create(): all is open, no vCPU exists; or NULL */
    void *owner;
    bool interrupts; /* see struct terminal_config */
};

/*
 * Builds the machine that machine_describe() planned. Prints; -errno. machine_destroy() must
 * follow even after an error.
 */
int machine_create(struct machine *machine, const struct machine_host *host);
void machine_destroy(struct machine *machine);

/* Asks the guest to power off. On the main loop. */
void machine_press_power_button(struct machine *machine);

/* Called by lifecycle.c only. */

/*
 * Creates the virtual machine, its vCPUs, which are parked, and loads the kernel or the snapshot.
 * Waits for the files: not on a loop's thread. After a success the thread must call
 * machine_run_vcpu(), which runs vCPU 0 until machine_stop(). Prints; -errno.
 */
int machine_start(struct machine *machine);
void machine_run_vcpu(struct machine *machine);

/*
 * Asks the host what vCPUs can be, restricts the process's system calls and starts the devices'
 * threads. Once, on the main loop's thread, while the first machine_start() runs on another one,
 * which waits for it, and fails if this does. Prints.
 */
void machine_start_devices(struct machine *machine);

/* See vm_park(), vm_resume() and vm_find_unparked(). */
void machine_park(struct machine *machine);
void machine_resume(struct machine *machine);
bool machine_find_unparked(struct machine *machine, char *name, size_t size);
int machine_parked_fd(const struct machine *machine); /* vm->all_parked */

/* See arch_reset_is_warm(). */
bool machine_reset_is_warm(const struct machine *machine);

/* Stop and restart input and other callbacks of the terminals. On the main loop. */
void machine_pause_consoles(struct machine *machine);
void machine_resume_consoles(struct machine *machine);

/* See board_pause() and board_resume(). */
int machine_pause_devices(struct machine *machine, uint64_t deadline_ns, const char **ret_busy);
void machine_resume_devices(struct machine *machine);

/* Destroys the virtual machine and its vCPUs; machine_start() creates new ones. */
void machine_stop(struct machine *machine);

/*
 * Resets devices and clears memory, after machine_stop() and before machine_start() or
 * machine_destroy(). Waits for I/O in flight, which may take long: not on a loop's thread.
 */
void machine_reset(struct machine *machine);

#endif
