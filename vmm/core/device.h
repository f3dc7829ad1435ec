/* SPDX-License-Identifier: MIT */
#ifndef VMM_CORE_DEVICE_H
#define VMM_CORE_DEVICE_H

#include <stdint.h>

struct device;
struct loop;
struct state;

/* What a device has done since the machine was built. A system call each: kicks, interrupts. */
struct device_stats {
    uint64_t exits;    /* accesses to its registers that came to user space */
    uint64_t kicks;    /* doorbells it looked after */
    uint64_t requests; /* given back to the guest */
    uint64_t interrupts;
    uint64_t calls;          /* other system calls for its requests, but for its loop's poll() */
    const struct loop *loop; /* NULL: it has none */
};

/*
 * What the machine asks of every device, with the vCPUs stopped and, unless it says otherwise, on a
 * thread that is no loop's, while the loops run. No operation may be missing, so tables are written
 * without designators: the compiler counts.
 */
struct device_ops {
    /* As after power-on, with no I/O in flight. */
    void (*reset)(struct device *dev);
    /*
     * Nothing is in flight at the host any more, and until resume() the device neither reads nor
     * writes guest memory, nor interrupts. 0; or -ETIMEDOUT at `deadline_ns` (clock_now_ns()), and
     * the device goes on as before.
     */
    int (*pause)(struct device *dev, uint64_t deadline_ns);
    void (*resume)(struct device *dev);
    /* Saves or loads a paused device, one section. It is loaded into one just created. */
    void (*state)(struct device *dev, struct state *s);
    /* Adds to a zeroed *ret what it has counted: vCPUs and loops have ended. */
    void (*count)(struct device *dev, struct device_stats *ret);
    void (*destroy)(struct device *dev); /* frees it: the loops have ended */
};

/* The first member of every device. Devices print "NAME: " in front of what they log. */
struct device {
    const char *name; /* unique: "blk0"; lives as long as the device */
    const struct device_ops *ops;
    struct device *next; /* the machine's list */
};

#endif
