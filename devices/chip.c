/* SPDX-License-Identifier: MIT */
#include "devices/chip.h"

#include <stdlib.h>

#include "vmm/base.h"

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

static void chip_reset(struct device *dev)
{
    struct chip *chip = container_of(dev, struct chip, device);

    if (chip->ops->reset)
        chip->ops->reset(chip);
}

static void chip_destroy(struct device *dev)
{
    struct chip *chip = container_of(dev, struct chip, device);

    if (chip->ops->finish)
        chip->ops->finish(chip);
    free(chip);
}

static const struct device_ops chip_device_ops = {
    .reset = chip_reset,
    .destroy = chip_destroy,
};

void *chip_create(size_t bytes, const struct chip_ops *ops, const char *name, uint64_t base,
                  uint64_t size)
{
    struct chip *chip = calloc(1, bytes);

    if (!chip)
        return NULL;
    chip->device = (struct device){ .name = name, .ops = &chip_device_ops };
    chip->region = (struct io_region){
        .name = name, .base = base, .size = size, .ops = &chip_io_ops, .owner = chip
    };
    chip->ops = ops;
    return chip;
}
