/* SPDX-License-Identifier: MIT */

/* Loads the input as an arm64 kernel. */
#include <assert.h>

#include "firmware/boot/arm64_image.h"
#include "tests/unit/arm.h"

#define RAM (16 * MIB)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct hardware hw = made_arm(RAM, 1, 0);
    struct guest_memory *mem = made_ram(RAM_BASE, RAM);
    struct image image = made_image(data, size);
    struct arm64_kernel kernel;

    if (size > 0 && arm64_image_load(&image, mem, &hw, &kernel) == 0)
        assert(kernel.entry >= RAM_BASE && kernel.end > kernel.entry && kernel.end <= hw.fdt.base);
    image_close(&image);
    guest_memory_destroy(mem);
    return 0;
}
