/* SPDX-License-Identifier: MIT */

/* Loads the input as a user's device tree. */
#include <assert.h>
#include <libfdt.h>

#include "firmware/tables/fdt.h"
#include "tests/unit/arm.h"

#define RAM (16 * MIB)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct fdt_chosen chosen = { "console=ttyAMA0", RAM_BASE + MIB, 4096 };
    const struct hardware hw = made_arm(RAM, 1, 0);
    struct guest_memory *mem = made_ram(RAM_BASE, RAM);
    struct image image = made_image(data, size);

    if (size > 0 && fdt_load(mem, &hw, &image, &chosen) == 0) {
        const void *fdt = guest_ptr(mem, hw.fdt.base, hw.fdt.size);

        assert(fdt_check_full(fdt, hw.fdt.size) == 0);
        assert(fdt_getprop(fdt, fdt_path_offset(fdt, "/chosen"), "bootargs", NULL));
    }
    image_close(&image);
    guest_memory_destroy(mem);
    return 0;
}
