/* SPDX-License-Identifier: MIT */
#ifndef DEVICES_CHIPS_CHIP_H
#define DEVICES_CHIPS_CHIP_H

#include <stddef.h>
#include <stdint.h>

#include "vmm/core/bus.h"
#include "vmm/core/device.h"

/*
 * A device that is one window of registers. Byte-wide ones: an access of 2, 4 or 8 bytes is as many
 * accesses of one byte, lowest first, as the ISA bus would make of it. Or of 32 bits, at multiples
 * of four: a narrower access is to the low bits, what is wider or lies between finds zeros.
 */
struct chip;
struct state;

/* A chip's own fields, saved or loaded while the vCPUs are parked. */
typedef void chip_state_fn(struct chip *chip, struct state *s);

/* Registers: on the threads of all vCPUs, several at once; `reg` lies inside the window. */
struct chip_ops {
    uint8_t (*read)(struct chip *chip, unsigned reg);
    void (*write)(struct chip *chip, unsigned reg, uint8_t value);
    uint32_t (*read32)(struct chip *chip, unsigned reg); /* in place of those two */
    void (*write32)(struct chip *chip, unsigned reg, uint32_t value);
    void (*reset)(struct chip *chip);  /* as in struct device_ops; may be NULL */
    void (*resume)(struct chip *chip); /* after its state was loaded, too: may be NULL */
    void (*finish)(struct chip *chip); /* before the chip is freed; may be NULL */
};

/* The first member of every chip. The machine maps `region` and lists `device`. */
struct chip {
    struct device device;
    struct io_region region;
    const struct chip_ops *ops;
    chip_state_fn *state;
    uint64_t line_changes; /* of its interrupt, a system call each; the chip's to count */
};

/*
 * For chips: a zeroed struct of `bytes` bytes that begins with a struct chip, with `size` registers
 * from `base` on. `state` may not be NULL: chip_no_state() for a chip that remembers nothing. NULL:
 * out of memory.
 */
void *chip_create(size_t bytes, const struct chip_ops *ops, chip_state_fn *state, const char *name,
                  uint64_t base, uint64_t size);
void chip_no_state(struct chip *chip, struct state *s);

#endif
