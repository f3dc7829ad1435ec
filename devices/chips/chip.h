/* SPDX-License-Identifier: MIT */
#ifndef DEVICES_CHIPS_CHIP_H
#define DEVICES_CHIPS_CHIP_H

#include <stddef.h>
#include <stdint.h>

#include "vmm/core/bus.h"
#include "vmm/core/device.h"

/*
 * A device that consists of one region of registers, of one of two kinds:
 *
 * - 8 bits: an access of 2, 4 or 8 bytes is split into accesses of one byte, lowest address first,
 *   as on the ISA bus;
 * - 32 bits, at multiples of 4: a narrower access reaches the low bits, a wider one reads zeros
 *   above. At other offsets reads give 0, and writes are ignored.
 *
 * Or of none: it is on no bus then.
 */
struct chip;
struct state;

/* Saves or loads the chip's own fields while the vCPUs are parked. */
typedef void chip_state_fn(struct chip *chip, struct state *s);

/* Register accesses come from all vCPU threads concurrently; `reg` lies within the region. */
struct chip_ops {
    uint8_t (*read)(struct chip *chip, unsigned reg);
    void (*write)(struct chip *chip, unsigned reg, uint8_t value);
    uint32_t (*read32)(struct chip *chip, unsigned reg); /* instead of those two */
    void (*write32)(struct chip *chip, unsigned reg, uint32_t value);
    void (*reset)(struct chip *chip);  /* as in struct device_ops; may be NULL */
    void (*resume)(struct chip *chip); /* also after a load; may be NULL */
    void (*finish)(struct chip *chip); /* before the chip is freed; may be NULL */
};

/* The first member of every chip. The machine maps `region` and lists `device`. */
struct chip {
    struct device device;
    struct io_region region;
    const struct chip_ops *ops;
    chip_state_fn *state;
    uint64_t irq_changes; /* of the interrupt line, a system call each; counted by the chip */
};

/*
 * Allocates a chip: a zeroed struct of `bytes` bytes that begins with a struct chip, whose region
 * is `size` bytes at `base`. `state` must not be NULL: chip_no_state() is for a chip without state.
 * `name` is borrowed. NULL: out of memory.
 */
void *chip_create(size_t bytes, const struct chip_ops *ops, chip_state_fn *state, const char *name,
                  uint64_t base, uint64_t size);
void chip_no_state(struct chip *chip, struct state *s);

#endif
