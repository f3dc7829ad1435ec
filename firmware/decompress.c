/* SPDX-License-Identifier: MIT */
#include "firmware/decompress.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <zlib.h>
#include <zstd.h>

#include "firmware/image.h"
#include "vmm/base.h"
#include "vmm/log.h"

#define INPUT_SIZE   (64 * KIB)
#define GZIP_WINDOW  (16 + MAX_WBITS) /* zlib's way to say: a gzip header, any window */
#define LARGEST_STEP (64 * MIB)       /* zlib counts in unsigned int */

/* One step of a library: moves input to output. False: the data are damaged. */
typedef bool decompress_step(struct decompressor *d, ZSTD_inBuffer *in, ZSTD_outBuffer *out);

struct decompressor {
    const struct image *image;
    uint64_t next, end; /* of the file: what is still to be read */
    decompress_step *step;
    z_stream zlib;
    ZSTD_DStream *zstd;
    bool ended; /* the library has seen the end of its data */
    ZSTD_inBuffer in;
    uint8_t input[INPUT_SIZE];
};

static bool decompress_gzip(struct decompressor *d, ZSTD_inBuffer *in, ZSTD_outBuffer *out)
{
    size_t room = out->size - out->pos;
    int result;

    d->zlib.next_in = (uint8_t *)d->input + in->pos;
    d->zlib.avail_in = (uInt)(in->size - in->pos);
    d->zlib.next_out = (uint8_t *)out->dst + out->pos;
    d->zlib.avail_out = (uInt)(room < LARGEST_STEP ? room : LARGEST_STEP);
    result = inflate(&d->zlib, Z_NO_FLUSH);
    in->pos = in->size - d->zlib.avail_in;
    out->pos = (size_t)(d->zlib.next_out - (uint8_t *)out->dst);
    d->ended = result == Z_STREAM_END;
    return result == Z_OK || result == Z_BUF_ERROR || d->ended;
}

static bool decompress_zstd(struct decompressor *d, ZSTD_inBuffer *in, ZSTD_outBuffer *out)
{
    size_t result = ZSTD_decompressStream(d->zstd, out, in);

    d->ended = result == 0;
    return !ZSTD_isError(result);
}

/* With room for the bytes and nothing left to turn into them: the file's next piece. */
static int decompress_refill(struct decompressor *d)
{
    uint64_t left = d->end - d->next;
    size_t size = left < INPUT_SIZE ? left : INPUT_SIZE;
    int error;

    if (size == 0)
        return log_refuse(EINVAL, "%s is truncated: what it holds, compressed, has no end",
                          d->image->path);
    error = image_read(d->image, d->next, d->input, size);
    d->next += size;
    d->in = (ZSTD_inBuffer){ .src = d->input, .size = size };
    return error;
}

static int64_t decompress_read_plain(struct decompressor *d, void *dst, size_t len)
{
    uint64_t left = d->end - d->next;
    size_t size = len < left ? len : left;
    int error = image_read(d->image, d->next, dst, size);

    d->next += size;
    return error ? error : (int64_t)size;
}

int64_t decompress_read(struct decompressor *d, void *dst, size_t len)
{
    ZSTD_outBuffer out = { .dst = dst, .size = len };

    if (!d->step)
        return decompress_read_plain(d, dst, len);
    while (out.pos < len && !d->ended) {
        size_t before = out.pos;
        int error = 0;

        if (!d->step(d, &d->in, &out))
            return log_refuse(EINVAL, "%s is damaged: what it holds, compressed, makes no sense",
                              d->image->path);
        if (out.pos == before && d->in.pos == d->in.size && !d->ended)
            error = decompress_refill(d);
        if (error)
            return error;
    }
    return (int64_t)out.pos;
}

static bool decompress_start(struct decompressor *d, enum compression compression)
{
    switch (compression) {
    case COMPRESSION_GZIP:
        d->step = decompress_gzip;
        return inflateInit2(&d->zlib, GZIP_WINDOW) == Z_OK;
    case COMPRESSION_ZSTD:
        d->step = decompress_zstd;
        d->zstd = ZSTD_createDStream();
        return d->zstd;
    case COMPRESSION_NONE:
        break;
    }
    return true;
}

int decompress_open(struct decompressor **ret, const struct image *image, uint64_t offset,
                    uint64_t size, enum compression compression)
{
    struct decompressor *d;

    if (offset > image->size || size > image->size - offset)
        return log_refuse(EINVAL, "%s is truncated: it should hold %llu bytes from %llu on",
                          image->path, (unsigned long long)size, (unsigned long long)offset);
    d = calloc(1, sizeof(*d));
    if (!d)
        return log_error(ENOMEM, "decompress %s", image->path);
    d->image = image;
    d->next = offset;
    d->end = offset + size;
    if (!decompress_start(d, compression)) {
        decompress_close(d);
        return log_error(ENOMEM, "decompress %s", image->path);
    }
    *ret = d;
    return 0;
}

void decompress_close(struct decompressor *d)
{
    if (!d)
        return;
    if (d->step == decompress_gzip)
        inflateEnd(&d->zlib);
    ZSTD_freeDStream(d->zstd);
    free(d);
}
