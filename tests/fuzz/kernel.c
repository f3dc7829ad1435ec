/* SPDX-License-Identifier: MIT */

/* Finds the kernel in a unified kernel image, and the version in a kernel's file. */
#include <assert.h>

#include "firmware/boot/uki.h"
#include "tests/unit/firmware.h"
#include "vmm/run/kernel.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct image image = made_image(data, size);
    char version[KERNEL_VERSION_SIZE];

    if (size > 0 && uki_narrow(&image) == 0)
        assert(image.size > 0 && image.start <= size && image.size <= size - image.start);
    if (size > 0 && kernel_version(version, &image) == 0)
        assert(*version && strlen(version) < sizeof(version) && !strchr(version, '/'));
    image_close(&image);
    return 0;
}
