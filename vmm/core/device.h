/* SPDX-License-Identifier: MIT */
#ifndef VMM_CORE_DEVICE_H
#define VMM_CORE_DEVICE_H

#include <stdint.h>

struct device;
struct loop;

/* What a device has done since the machine was built. A system call each: kicks, interrupts. */
struct device_stats {
    uint64_t exits;    /* accesses to its registers that came to user space */
    uint64_t kicks;    /* doorbells it looked after */
    uint64_t requests; /* given back to the guest */
    uint64_t interrupts;
    uint64_t calls;          /* other system calls for its requests, but for its loop's poll() */
    const struct loop *loop; /* NULL: it has none */
};

/* What the machine asks of every device, with the vCPUs stopped. */
struct device_ops {
    /* As after power-on, with no I/O in flight. While the loops run, on a thread beside them. */
    void (*reset)(struct device *dev);
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
