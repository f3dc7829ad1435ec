/* SPDX-License-Identifier: MIT */
/* Loads the input as an ELF kernel. */
#include "firmware/boot/elf.h"

#include <assert.h>

#include "tests/unit/pc.h"

#define RAM (32 * MIB)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct hardware hw = made_hardware(RAM, 1, 0);
    struct guest_memory *mem = made_memory(RAM);
    struct image image = made_image(data, size);
    struct pc_kernel kernel;

    if (elf_load(&image, mem, &hw, &kernel) == 0)
        assert(kernel.entry >= MIB && kernel.entry < kernel.end && kernel.end <= RAM);
    image_close(&image);
    guest_memory_destroy(mem);
    return 0;
}
