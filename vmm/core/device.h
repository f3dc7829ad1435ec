/* SPDX-License-Identifier: MIT */
#ifndef VMM_CORE_DEVICE_H
#define VMM_CORE_DEVICE_H

#include <stdint.h>

struct device;
struct loop;
struct state;

/* A device's counters since the machine was built. Each kick and interrupt is one system call. */
struct device_stats {
    uint64_t exits;    /* register accesses that exited to user space */
    uint64_t kicks;    /* kick eventfds it has read */
    uint64_t requests; /* returned to the driver */
    uint64_t interrupts;
    uint64_t calls;          /* other system calls for requests, without its loop's poll() */
    const struct loop *loop; /* or NULL */
};

/*
 * What every device implements. reset(), pause() and state() are called on a thread that runs no
 * loop, while the loops run; resume() on the main loop, or on the thread whose pause() of another
 * device failed. All vCPUs are parked; before reset() they may have ended. No operation may be
 * missing: tables are written without designators, so that the compiler notices.
 */
struct device_ops {
    /* Returns to the state after power-on, with no I/O in flight. */
    void (*reset)(struct device *dev);
    /*
     * Drains requests in flight at the host. Until resume() the device neither touches guest
     * memory nor interrupts. 0; or -ETIMEDOUT once clock_now_ns() passes `deadline_ns`, and the
     * device runs on.
     */
    int (*pause)(struct device *dev, uint64_t deadline_ns);
    void (*resume)(struct device *dev);
    /*
     * Saves a paused device, or loads into one just created or reset: one section of `s`. A device
     * whose load fails is good for nothing but destroy().
     */
    void (*state)(struct device *dev, struct state *s);
    /* Adds its counters to *ret, which is zeroed. After vCPU threads and loops have ended. */
    void (*count)(struct device *dev, struct device_stats *ret);
    void (*destroy)(struct device *dev); /* frees it; after the loops have ended */
};

/* Embedded in every device. Devices log with the prefix "NAME: ". */
struct device {
    const char *name; /* unique: "blk0"; lives as long as the device */
    const struct device_ops *ops;
    struct device *next; /* in the board's list */
};

#endif
