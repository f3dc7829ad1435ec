/* SPDX-License-Identifier: MIT */

/* Loads the input as what a bzImage contains; a byte of e_ident that nobody reads says whether at a
 * random place. */
#include "firmware/boot/vmlinux.h"

#include <assert.h>
#include <elf.h>
#include <errno.h>

#include "tests/unit/pc.h"
#include "vmm/core/base.h"

#define RAM       (32 * MIB)
#define PREFERRED (4 * MIB)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct hardware hw = made_hardware(RAM, 1, 0);
    struct setup_header header = { .initrd_addr_max = 0x7fffffff,
                                   .kernel_alignment = 2 * MIB,
                                   .pref_address = PREFERRED,
                                   .init_size = 2 * MIB };
    struct guest_memory *mem = made_memory(RAM);
    struct image image = made_image(data, size);
    struct pc_kernel kernel;
    bool randomize = size > EI_ABIVERSION && data[EI_ABIVERSION] == 0;
    int error = vmlinux_load(&image, randomize, 1, mem, &hw, &header, &kernel);

    assert(error == 0 || error == -ENOEXEC);
    if (!error)
        assert(kernel.entry >= PREFERRED && kernel.entry < kernel.end && kernel.end <= RAM - 1);
    image_close(&image);
    guest_memory_destroy(mem);
    return 0;
}
