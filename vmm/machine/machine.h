/* SPDX-License-Identifier: MIT */
#ifndef VMM_MACHINE_MACHINE_H
#define VMM_MACHINE_MACHINE_H

#include <stdbool.h>
#include <stddef.h>

#include "firmware/image.h"
#include "vmm/board/board.h"
#include "vmm/core/event.h"
#include "vmm/kvm/vm.h"

/*
 * The whole guest machine: a board, RAM, a KVM virtual machine and what it boots. Everything the
 * host has to give (files, sockets, threads) is taken by machine_create(), before the first vCPU
 * runs.
 */
struct config;
struct loop;

struct machine {
    const struct config *config;
    struct timeline timeline;
    struct board board;
    struct guest_memory *memory;
    struct vm vm;
    struct image kernel, initrd;
    struct image dtb; /* aarch64: the user's own tree */
    char *cmdline;    /* what the kernel is told: the user's words, or the default */
};

/* What the configuration describes, without touching the host: for --dry-run. Prints; -errno. */
int machine_describe(struct machine *machine, const struct config *config);

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

/* Asks the guest to power off. Main loop. */
void machine_press_power_button(struct machine *machine);

/* The steps of its life, which lifecycle.c takes. */

/* Loads the guest and lets the vCPUs go. Prints; -errno. */
int machine_start(struct machine *machine);

/* vm_park() and vm_resume(); vm_find_unparked(). */
void machine_park(struct machine *machine);
void machine_resume(struct machine *machine);
bool machine_find_unparked(struct machine *machine, char *name, size_t size);
int machine_parked_fd(const struct machine *machine); /* vm->all_parked */

/* Input and other calls of the consoles are held back, or come again. On the main loop. */
void machine_pause_consoles(struct machine *machine);
void machine_resume_consoles(struct machine *machine);

/* board_pause() and board_resume(). */
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

#endif
