/* SPDX-License-Identifier: MIT */
#include "devices/chips/chip.h"

#include <stdlib.h>

#include "vmm/core/base.h"
#include "vmm/core/state.h"

static uint64_t chip_read(void *owner, uint64_t offset, unsigned size)
{
    struct chip *chip = owner;
    uint64_t value = 0;

    for (unsigned i = 0; i < size; i++)
        value |= (uint64_t)chip->ops->read(chip, (unsigned)offset + i) << 8 * i;
    return value;
}

static void chip_write(void *owner, uint64_t offset, unsigned size, uint64_t value)
{
    struct chip *chip = owner;

    for (unsigned i = 0; i < size; i++)
        chip->ops->write(chip, (unsigned)offset + i, (uint8_t)(value >> 8 * i));
}

static const struct io_ops chip_io_ops = {
    .read = chip_read,
    .write = chip_write,
};

static uint64_t chip_read32(void *owner, uint64_t offset, unsigned size)
{
    struct chip *chip = owner;
    uint64_t mask = size < 4 ? (1u << 8 * size) - 1 : UINT32_MAX;

    return offset % 4 ? 0 : chip->ops->read32(chip, (unsigned)offset) & mask;
}

static void chip_write32(void *owner, uint64_t offset, unsigned size, uint64_t value)
{
    struct chip *chip = owner;

    if (offset % 4 == 0)
        chip->ops->write32(chip, (unsigned)offset, (uint32_t)value);
}

static const struct io_ops chip_io_ops32 = {
    .read = chip_read32,
    .write = chip_write32,
};

static void chip_reset(struct device *dev)
{
    struct chip *chip = container_of(dev, struct chip, device);

    if (chip->ops->reset)
        chip->ops->reset(chip);
}

static void chip_count(struct device *dev, struct device_stats *ret)
{
    const struct chip *chip = container_of(dev, struct chip, device);

    ret->exits = chip->region.accesses;
    ret->calls = chip->irq_changes;
}

static void chip_destroy(struct device *dev)
{
    struct chip *chip = container_of(dev, struct chip, device);

    if (chip->ops->finish)
        chip->ops->finish(chip);
    free(chip);
}

/* Nothing to wait for: vCPUs are parked, and terminals do not call their clients while paused. */
static int chip_pause(struct device *dev, uint64_t deadline_ns)
{
    return 0;
}

static void chip_resume(struct device *dev)
{
    struct chip *chip = container_of(dev, struct chip, device);

    if (chip->ops->resume)
        chip->ops->resume(chip);
}

void chip_no_state(struct chip *chip, struct state *s)
{
}

static void chip_state(struct device *dev, struct state *s)
{
    struct chip *chip = container_of(dev, struct chip, device);

    state_section(s, dev->name, 1);
    chip->state(chip, s);
    state_end_section(s);
}

static const struct device_ops chip_device_ops = {
    chip_reset, chip_pause, chip_resume, chip_state, chip_count, chip_destroy,
};

void *chip_create(size_t bytes, const struct chip_ops *ops, chip_state_fn *state, const char *name,
                  uint64_t base, uint64_t size)
{
    struct chip *chip = calloc(1, bytes);

    if (!chip)
        return NULL;
    chip->device = (struct device){ .name = name, .ops = &chip_device_ops };
    chip->region = (struct io_region){
        .name = name,
        .base = base,
        .size = size,
        .ops = ops->read32 ? &chip_io_ops32 : &chip_io_ops,
        .owner = chip,
    };
    chip->ops = ops;
    chip->state = state;
    return chip;
}
