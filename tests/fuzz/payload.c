/* SPDX-License-Identifier: MIT */

/* Finds what the input, a bzImage, contains, and unpacks it if that is ours to do and no library's.
 */
#include "firmware/boot/payload.h"

#include <assert.h>

#include "tests/unit/firmware.h"
#include "vmm/core/base.h"
#include "vmm/core/log.h"

#define LIMIT (1 * MIB)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint8_t bytes[LIMIT];
    struct image image = made_image(data, size);
    struct decompressor *d = NULL;
    struct payload payload;

    log_expect_errors(true);
    if (payload_find(&payload, &image)) {
        assert(payload.offset <= size && payload.size <= size - payload.offset);
        if (payload.compression == COMPRESSION_LZ4 &&
            decompress_open(&d, &image, payload.offset, payload.size, COMPRESSION_LZ4) == 0)
            assert(decompress_read(d, bytes, LIMIT) <= (int64_t)LIMIT);
        decompress_close(d);
    }
    image_close(&image);
    return 0;
}
