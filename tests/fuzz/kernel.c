/* SPDX-License-Identifier: MIT */

/* Finds the version in a kernel file. */
#include <assert.h>

#include "tests/unit/firmware.h"
#include "vmm/run/kernel.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct image image = made_image(data, size);
    char version[KERNEL_VERSION_SIZE];

    if (size > 0 && kernel_version(version, &image) == 0)
        assert(*version && strlen(version) < sizeof(version) && !strchr(version, '/'));
    image_close(&image);
    return 0;
}
