/* SPDX-License-Identifier: MIT */

/* Boots the input as an x86 kernel of any format, with an initrd, up to the registers. */
#include <assert.h>

#include "arch/x86_64/boot.h"
#include "tests/unit/pc.h"
#include "vmm/kvm/arch.h"

#define RAM (32 * MIB)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct hardware hw = made_hardware(RAM, 1, 1);
    struct guest_memory *mem = made_memory(RAM);
    struct image kernel = made_image(data, size);
    struct image initrd = made_image("initrd", 6);
    const struct boot_files files = { .kernel = &kernel, .initrd = &initrd, .cmdline = "quiet" };
    struct boot_entry entry;

    if (size > 0 && boot_load(mem, &hw, &files, &entry) == 0)
        assert(entry.rip >= MIB && entry.argument == BOOT_PARAMS_BASE);
    image_close(&kernel);
    image_close(&initrd);
    guest_memory_destroy(mem);
    return 0;
}
