/* SPDX-License-Identifier: MIT */

/* The input is a file given as a disk: refused, or taken as raw. */
#include "devices/block/format.h"

#include <assert.h>
#include <errno.h>

#include "tests/unit/firmware.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct image image = made_image(data, size);
    int error = format_check(image.fd, size, "made");

    assert(error == 0 || error == -EINVAL);
    assert(size < 4 || memcmp(data, "QFI\xfb", 4) || error);
    image_close(&image);
    return 0;
}
