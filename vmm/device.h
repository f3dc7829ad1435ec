/* SPDX-License-Identifier: MIT */
#ifndef VMM_DEVICE_H
#define VMM_DEVICE_H

struct device;

/* What the machine asks of every device, with the vCPUs stopped. */
struct device_ops {
    /* As after power-on, with no I/O in flight. While the loops run, on a thread beside them. */
    void (*reset)(struct device *dev);
    void (*destroy)(struct device *dev); /* frees it: the loops have ended */
};

/* The first member of every device. Devices print "NAME: " in front of what they log. */
struct device {
    const char *name; /* unique: "blk0"; lives as long as the device */
    const struct device_ops *ops;
    struct device *next; /* the machine's list */
};

#endif
