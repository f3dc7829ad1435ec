/* SPDX-License-Identifier: MIT */
#ifndef VMM_DEVICE_H
#define VMM_DEVICE_H

struct device;

/* What the machine asks of every device, from the main thread with the vCPUs stopped. */
struct device_ops {
    void (*reset)(struct device *dev);   /* as after power-on */
    void (*destroy)(struct device *dev); /* ends its I/O, frees it */
};

/* The first member of every device. Devices print "NAME: " in front of what they log. */
struct device {
    const char *name; /* unique: "blk0"; lives as long as the device */
    const struct device_ops *ops;
    struct device *next; /* the machine's list */
};

#endif
