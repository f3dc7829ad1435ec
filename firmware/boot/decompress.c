/* SPDX-License-Identifier: MIT */
#include "firmware/boot/decompress.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <lzma.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#include "firmware/image.h"
#include "settings.h"
#include "vmm/core/base.h"
#include "vmm/core/cleanup.h"
#include "vmm/core/endian.h"
#include "vmm/core/log.h"
#include "vmm/core/open.h"
#include "vmm/core/seccomp.h"
#include "vmm/core/write.h"

/*
 * The libraries are loaded by dlopen() when a file needs one: most kernels and modules are not
 * compressed, and then the host needs none of them. A static program has them linked in.
 *
 * They parse what a stranger may have made. So they do it in a child, which can read the file,
 * write to a pipe and nothing else.
 */
#define INPUT_SIZE  (64 * KIB)
#define OUTPUT_SIZE (64 * KIB)
#define GZIP_WINDOW (16 + MAX_WBITS) /* zlib: a gzip header, any window size */
#define MAX_STEP    (64 * MIB)       /* zlib counts in unsigned int */
#define XZ_MEMORY   (128 * MIB)      /* liblzma's memory limit; xz -9 needs 65 MiB */
#define MEMBER_MIN  9u               /* bytes: an empty zstd frame, the smallest member */

struct gzip {
    __typeof__(&inflateInit2_) init;
    __typeof__(&inflate) step;
    __typeof__(&inflateEnd) end;
    z_stream stream;
};

struct zstd {
    __typeof__(&ZSTD_createDStream) create;
    __typeof__(&ZSTD_decompressStream) step;
    __typeof__(&ZSTD_isError) is_error;
    __typeof__(&ZSTD_freeDStream) free;
    ZSTD_DStream *stream;
};

struct xz {
    __typeof__(&lzma_stream_decoder) init;
    __typeof__(&lzma_code) step;
    __typeof__(&lzma_end) end;
    lzma_stream stream;
};

/* LZ4's legacy format, lz4_Frame_format.md: blocks, each behind its compressed size. */
#define LZ4_BLOCK     (8 * MIB) /* unpacked, at most */
#define LZ4_MIN_MATCH 4
#define LZ4_MAX_INPUT \
    (LZ4_BLOCK + LZ4_BLOCK / 255 + 16) /* of a block that could not be compressed */

struct lz4 {
    uint8_t *in, *out;
    size_t want, have; /* bytes of `in`: of a size, or of a block */
    bool in_block;
    size_t size, pos; /* of `out`: unpacked, taken */
};

struct decompressor {
    const struct image *image;
    uint64_t next, end; /* file offsets still to be read */
    const struct codec *codec;
    void *library;
    union {
        struct gzip gzip;
        struct zstd zstd;
        struct xz xz;
        struct lz4 lz4;
    };
    pid_t child; /* 0: none, as the file is not compressed */
    int pipe;    /* what it unpacks */
    bool ended;  /* the end of the compressed data was reached */
    ZSTD_inBuffer in;
    uint8_t input[INPUT_SIZE];
};

/* A function of a library, and where struct decompressor keeps the pointer to it. */
struct symbol {
    const char *name;
    void (*linked)(void); /* its address in a static program, else NULL */
    size_t at;
};

struct codec {
    const char *library, *package;   /* NULL: needs none */
    const char *magic, *other_magic; /* of a member; NULL: there is one only */
    size_t magic_size;
    struct symbol symbols[4];
    bool (*start)(struct decompressor *d);
    /* Decompresses until input or output is used up. False: the data are damaged. */
    bool (*step)(struct decompressor *d, ZSTD_inBuffer *in, ZSTD_outBuffer *out);
    void (*finish)(struct decompressor *d); /* not at the end of a child, which just ends */
};

static bool gzip_start(struct decompressor *d)
{
    return d->gzip.init(&d->gzip.stream, GZIP_WINDOW, ZLIB_VERSION, sizeof(z_stream)) == Z_OK;
}

static bool gzip_step(struct decompressor *d, ZSTD_inBuffer *in, ZSTD_outBuffer *out)
{
    z_stream *stream = &d->gzip.stream;
    size_t room = out->size - out->pos;
    int result;

    stream->next_in = (uint8_t *)d->input + in->pos;
    stream->avail_in = (uInt)(in->size - in->pos);
    stream->next_out = (uint8_t *)out->dst + out->pos;
    stream->avail_out = (uInt)(room < MAX_STEP ? room : MAX_STEP);
    result = d->gzip.step(stream, Z_NO_FLUSH);
    in->pos = in->size - stream->avail_in;
    out->pos = (size_t)(stream->next_out - (uint8_t *)out->dst);
    d->ended = result == Z_STREAM_END;
    return result == Z_OK || result == Z_BUF_ERROR || d->ended;
}

static void gzip_finish(struct decompressor *d)
{
    d->gzip.end(&d->gzip.stream);
}

static bool zstd_start(struct decompressor *d)
{
    d->zstd.stream = d->zstd.create();
    return d->zstd.stream;
}

static bool zstd_step(struct decompressor *d, ZSTD_inBuffer *in, ZSTD_outBuffer *out)
{
    size_t result = d->zstd.step(d->zstd.stream, out, in);

    d->ended = result == 0;
    return !d->zstd.is_error(result);
}

static void zstd_finish(struct decompressor *d)
{
    d->zstd.free(d->zstd.stream);
}

static bool xz_start(struct decompressor *d)
{
    d->xz.stream = (lzma_stream)LZMA_STREAM_INIT;
    return d->xz.init(&d->xz.stream, XZ_MEMORY, 0) == LZMA_OK;
}

static bool xz_step(struct decompressor *d, ZSTD_inBuffer *in, ZSTD_outBuffer *out)
{
    lzma_stream *stream = &d->xz.stream;
    lzma_ret result;

    stream->next_in = d->input + in->pos;
    stream->avail_in = in->size - in->pos;
    stream->next_out = (uint8_t *)out->dst + out->pos;
    stream->avail_out = out->size - out->pos;
    result = d->xz.step(stream, LZMA_RUN);
    in->pos = in->size - stream->avail_in;
    out->pos = out->size - stream->avail_out;
    d->ended = result == LZMA_STREAM_END;
    return result == LZMA_OK || result == LZMA_BUF_ERROR || d->ended;
}

static void xz_finish(struct decompressor *d)
{
    d->xz.end(&d->xz.stream);
}

static bool lz4_start(struct decompressor *d)
{
    d->lz4 = (struct lz4){ .in = malloc(LZ4_MAX_INPUT),
                           .out = malloc(LZ4_BLOCK),
                           .want = sizeof(LZ4_MAGIC) - 1 };
    return d->lz4.in && d->lz4.out;
}

/* A length of 15 goes on in bytes, up to one below 255. SIZE_MAX: the data end before. */
static size_t lz4_length(const uint8_t **at, const uint8_t *end, size_t length)
{
    uint8_t more = 255;

    while (length >= 15 && more == 255) {
        if (*at == end)
            return SIZE_MAX;
        more = *(*at)++;
        length += more;
    }
    return length;
}

/* Appends what a match repeats to the `used` bytes of a block. False: the data are damaged. */
static bool lz4_repeat(uint8_t *out, size_t *used, size_t distance, size_t length)
{
    if (distance == 0 || distance > *used || length > LZ4_BLOCK - *used ||
        LZ4_BLOCK - *used - length < LZ4_MIN_MATCH)
        return false;
    for (length += LZ4_MIN_MATCH; length > 0; length--, ++*used)
        out[*used] = out[*used - distance];
    return true;
}

/* Unpacks a block (lz4_Block_format.md) and returns its size; 0: the data are damaged. */
static size_t lz4_unpack(const uint8_t *at, size_t size, uint8_t *out)
{
    const uint8_t *end = at + size;
    size_t used = 0;

    while (at < end) {
        unsigned token = *at++, distance;
        size_t length = lz4_length(&at, end, token >> 4);

        if (length > (size_t)(end - at) || length > LZ4_BLOCK - used)
            return 0;
        memcpy(out + used, at, length);
        used += length;
        at += length;
        if (at == end)
            return used; /* the last literals */
        if (end - at < 2)
            return 0;
        distance = at[0] | (unsigned)at[1] << 8;
        at += 2;
        if (!lz4_repeat(out, &used, distance, lz4_length(&at, end, token & 15)))
            return 0;
    }
    return 0;
}

/* Takes a complete size, or block. The magic number is like a size of which nothing comes. */
static bool lz4_take(struct lz4 *l)
{
    size_t size = l->want;

    l->have = 0;
    l->want = sizeof(le32);
    if (l->in_block) {
        l->in_block = false;
        l->pos = 0;
        l->size = lz4_unpack(l->in, size, l->out);
        return l->size > 0;
    }
    if (!memcmp(l->in, LZ4_MAGIC, sizeof(LZ4_MAGIC) - 1))
        return true;
    l->in_block = true;
    l->want = le32_load((const le32 *)(const void *)l->in);
    return l->want > 0 && l->want <= LZ4_MAX_INPUT;
}

static size_t lz4_copy(uint8_t *dst, size_t room, const uint8_t *src, size_t size)
{
    size_t n = room < size ? room : size;

    memcpy(dst, src, n);
    return n;
}

/* The format has no end mark: it ends with the file, after a block. */
static bool lz4_step(struct decompressor *d, ZSTD_inBuffer *in, ZSTD_outBuffer *out)
{
    struct lz4 *l = &d->lz4;

    for (;;) {
        size_t n = lz4_copy((uint8_t *)out->dst + out->pos, out->size - out->pos, l->out + l->pos,
                            l->size - l->pos);

        out->pos += n;
        l->pos += n;
        if (l->pos < l->size)
            return true;
        n = lz4_copy(l->in + l->have, l->want - l->have, d->input + in->pos, in->size - in->pos);
        in->pos += n;
        l->have += n;
        if (l->have < l->want) {
            d->ended = !l->in_block && l->have == 0 && d->next == d->end;
            return true;
        }
        if (!lz4_take(l))
            return false;
    }
}

static void lz4_finish(struct decompressor *d)
{
    free(d->lz4.in);
    free(d->lz4.out);
}

#if STATIC
#define SYMBOL_LINKED(function) ((void (*)(void))(function))
#else
#define SYMBOL_LINKED(function) NULL
#endif
#define SYMBOL(function, member)                              \
    {                                                         \
        .name = #function, .linked = SYMBOL_LINKED(function), \
        .at = offsetof(struct decompressor, member)           \
    }

static const struct codec codecs[] = {
    [COMPRESSION_GZIP] = { .library = "libz.so.1",
                           .package = "zlib1g",
                           .magic = GZIP_MAGIC,
                           .magic_size = sizeof(GZIP_MAGIC) - 1,
                           .symbols = { SYMBOL(inflateInit2_, gzip.init),
                                        SYMBOL(inflate, gzip.step), SYMBOL(inflateEnd, gzip.end) },
                           .start = gzip_start,
                           .step = gzip_step,
                           .finish = gzip_finish },
    [COMPRESSION_ZSTD] = { .library = "libzstd.so.1",
                           .package = "libzstd1",
                           .magic = ZSTD_MAGIC,
                           .other_magic = ZSTD_SKIP,
                           .magic_size = sizeof(ZSTD_MAGIC) - 1,
                           .symbols = { SYMBOL(ZSTD_createDStream, zstd.create),
                                        SYMBOL(ZSTD_decompressStream, zstd.step),
                                        SYMBOL(ZSTD_isError, zstd.is_error),
                                        SYMBOL(ZSTD_freeDStream, zstd.free) },
                           .start = zstd_start,
                           .step = zstd_step,
                           .finish = zstd_finish },
    [COMPRESSION_XZ] = { .library = "liblzma.so.5",
                         .package = "liblzma5",
                         .magic = XZ_MAGIC,
                         .magic_size = sizeof(XZ_MAGIC) - 1,
                         .symbols = { SYMBOL(lzma_stream_decoder, xz.init),
                                      SYMBOL(lzma_code, xz.step), SYMBOL(lzma_end, xz.end) },
                         .start = xz_start,
                         .step = xz_step,
                         .finish = xz_finish },
    [COMPRESSION_LZ4] = { .start = lz4_start, .step = lz4_step, .finish = lz4_finish },
};

/* In the child. Its exit status says what went wrong, for the parent to print. */
enum { UNPACKED, DAMAGED, TRUNCATED, FAILED };

/* Reads the next piece of the file, after what is left of the input. */
static int decompress_refill(struct decompressor *d)
{
    size_t rest = d->in.size - d->in.pos, room = INPUT_SIZE - rest;
    uint64_t left = d->end - d->next;
    size_t size = left < room ? left : room;
    int error;

    if (size == 0)
        return TRUNCATED;
    memmove(d->input, d->input + d->in.pos, rest);
    error = image_read(d->image, d->next, d->input + rest, size);
    d->next += size;
    d->in = (ZSTD_inBuffer){ .src = d->input, .size = rest + size };
    return error ? FAILED : UNPACKED;
}

/* Skips zero bytes, with which gzip and xz files may be padded. */
static int decompress_skip_padding(struct decompressor *d)
{
    int status = UNPACKED;

    while (status == UNPACKED) {
        while (d->in.pos < d->in.size && !d->input[d->in.pos])
            d->in.pos++;
        if (d->in.size - d->in.pos >= MEMBER_MIN || d->next == d->end)
            break;
        status = decompress_refill(d);
    }
    return status;
}

static bool decompress_is_member(const struct codec *codec, const uint8_t *bytes)
{
    return !memcmp(bytes, codec->magic, codec->magic_size) ||
           (codec->other_magic && !memcmp(bytes, codec->other_magic, codec->magic_size));
}

/*
 * After a member: begins with the next one, as a file may be several that were joined. Anything
 * else behind it is ignored: the build of Linux appends the unpacked size, in four bytes.
 */
static int decompress_next_member(struct decompressor *d)
{
    const struct codec *codec = d->codec;
    int status = decompress_skip_padding(d);

    if (status != UNPACKED || d->in.size - d->in.pos < MEMBER_MIN ||
        !decompress_is_member(codec, d->input + d->in.pos))
        return status;
    codec->finish(d);
    d->ended = false;
    return codec->start(d) ? UNPACKED : FAILED;
}

/* Fills the buffer, unless the data end. */
static int decompress_fill(struct decompressor *d, ZSTD_outBuffer *out)
{
    while (out->pos < out->size && !d->ended) {
        size_t before = out->pos;
        int status = UNPACKED;

        if (!d->codec->step(d, &d->in, out))
            return DAMAGED;
        if (d->ended)
            status = decompress_next_member(d);
        else if (out->pos == before && d->in.pos == d->in.size)
            status = decompress_refill(d);
        if (status != UNPACKED)
            return status;
    }
    return UNPACKED;
}

static int decompress_all(struct decompressor *d, int fd)
{
    cleanup_free uint8_t *bytes = malloc(OUTPUT_SIZE);
    int status = bytes && d->codec->start(d) ? UNPACKED : FAILED;

    while (status == UNPACKED && !d->ended) {
        ZSTD_outBuffer out = { .dst = bytes, .size = OUTPUT_SIZE };

        status = decompress_fill(d, &out);
        if (write_all(fd, bytes, out.pos))
            return FAILED; /* nobody reads on */
    }
    return status;
}

static const struct seccomp_rule decompress_table[] = {
    { SYS_pread64, .reason = "the file" },
    { SYS_write, .reason = "the pipe; log messages" },
    { SYS_ppoll, .reason = "waiting for a full stderr" },
#ifdef SYS_poll
    { SYS_poll, .reason = "the same" },
#endif
    { SYS_ioctl, .argument = { 1, UINT32_MAX, TCGETS }, .reason = "isatty() of stderr" },
    { SYS_brk, .reason = "malloc()" },
    { SYS_mmap, .argument = { 2, PROT_EXEC, 0 }, .reason = "malloc()" },
    { SYS_mremap, .reason = "realloc()" },
    { SYS_munmap, .reason = "free()" },
    { SYS_madvise, .reason = "free()" },
    { SYS_exit_group, .reason = "the end" },
};

/* The child keeps the file, the pipe and standard error: its system calls take any descriptor. */
enum { CHILD_FILE, CHILD_PIPE, CHILD_ERRORS };

static void decompress_keep(int file, int pipe)
{
    dup2(file, CHILD_FILE);
    dup2(pipe, CHILD_PIPE);
    open_close_range(CHILD_ERRORS + 1, ~0u);
}

static _Noreturn void decompress_child(struct decompressor *d, int pipe, pid_t parent)
{
    const struct seccomp_list list = { decompress_table, ARRAY_SIZE(decompress_table) };
    struct image image = *d->image;

    decompress_keep(image.fd, pipe);
    image.fd = CHILD_FILE;
    d->image = &image;
    signal(SIGPIPE, SIG_DFL);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(FAILED); /* it has ended before it could be told */
    prctl(PR_SET_DUMPABLE, 0);
    /* Where the host has no seccomp the machine says so. */
    if (CONFINE && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0)
        seccomp_restrict(&list, 1, SECCOMP_TRAP);
    _exit(decompress_all(d, CHILD_PIPE));
}

/* In the parent. */

static int decompress_start(struct decompressor *d)
{
    cleanup_close int theirs = -1;
    const pid_t parent = getpid();
    int ends[2];

    if (pipe2(ends, O_CLOEXEC) < 0)
        return log_error(errno, "decompress %s", d->image->path);
    d->pipe = ends[0];
    theirs = ends[1];
    d->child = fork();
    if (d->child < 0)
        return log_error(errno, "decompress %s", d->image->path);
    if (d->child == 0)
        decompress_child(d, theirs, parent);
    return 0;
}

static int decompress_explain(const struct decompressor *d, int status)
{
    switch (status) {
    case UNPACKED:
        return 0;
    case TRUNCATED:
        return log_refuse(EINVAL, "%s is truncated: its compressed data ends early",
                          d->image->path);
    case DAMAGED:
        return log_refuse(EINVAL, "%s is damaged: its compressed data is invalid", d->image->path);
    default:
        return log_refuse(EIO, "%s cannot be decompressed", d->image->path);
    }
}

/* Waits for the child and prints why it failed. */
static int decompress_finish(struct decompressor *d)
{
    int status = 0;
    pid_t child = d->child, ended;

    d->child = 0;
    do
        ended = waitpid(child, &status, 0);
    while (ended < 0 && errno == EINTR);
    return decompress_explain(d,
                              ended == child && WIFEXITED(status) ? WEXITSTATUS(status) : FAILED);
}

static int64_t decompress_read_here(struct decompressor *d, void *dst, size_t len)
{
    ZSTD_outBuffer out = { .dst = dst, .size = len };
    int error = decompress_explain(d, decompress_fill(d, &out));

    return error ? error : (int64_t)out.pos;
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
    size_t used = 0;

    if (!d->codec)
        return decompress_read_plain(d, dst, len);
    if (!CONFINE)
        return decompress_read_here(d, dst, len);
    while (used < len && !d->ended) {
        ssize_t got = read(d->pipe, (uint8_t *)dst + used, len - used);
        int error = 0;

        if (got < 0 && errno != EINTR)
            return log_error(errno, "decompress %s", d->image->path);
        d->ended = got == 0;
        if (d->ended)
            error = decompress_finish(d);
        if (error)
            return error;
        used += got > 0 ? (size_t)got : 0;
    }
    return (int64_t)used;
}

#if STATIC
static int decompress_find_symbols(struct decompressor *d, const struct codec *codec)
{
    for (unsigned i = 0; i < ARRAY_SIZE(codec->symbols) && codec->symbols[i].name; i++)
        *(void (**)(void))((char *)d + codec->symbols[i].at) = codec->symbols[i].linked;
    return 0;
}
#else
static int decompress_find_symbols(struct decompressor *d, const struct codec *codec)
{
    if (!codec->library)
        return 0;
    d->library = dlopen(codec->library, RTLD_NOW | RTLD_LOCAL);
    if (!d->library)
        return log_refuse(ENOSYS, "cannot decompress %s: install the package %s (%s)",
                          d->image->path, codec->package, dlerror());
    for (unsigned i = 0; i < ARRAY_SIZE(codec->symbols) && codec->symbols[i].name; i++) {
        void *symbol = dlsym(d->library, codec->symbols[i].name);

        if (!symbol)
            return log_refuse(ENOSYS, "cannot decompress %s: the installed %s has no %s",
                              d->image->path, codec->library, codec->symbols[i].name);
        *(void **)((char *)d + codec->symbols[i].at) = symbol;
    }
    return 0;
}
#endif

static int decompress_load(struct decompressor *d, const struct codec *codec)
{
    int error = decompress_find_symbols(d, codec);

    if (error)
        return error;
    d->codec = codec;
    if (!CONFINE) /* so that sanitizers and fuzz targets see what the libraries do */
        return codec->start(d) ? 0 : log_error(ENOMEM, "decompress %s", d->image->path);
    return decompress_start(d);
}

int decompress_open(struct decompressor **ret, const struct image *image, uint64_t offset,
                    uint64_t size, enum compression compression)
{
    struct decompressor *d;
    int error = 0;

    if (offset > image->size || size > image->size - offset)
        return log_refuse(EINVAL, "%s is truncated: it should have %llu bytes at offset %llu",
                          image->path, (unsigned long long)size, (unsigned long long)offset);
    d = calloc(1, sizeof(*d));
    if (!d)
        return log_error(ENOMEM, "decompress %s", image->path);
    d->image = image;
    d->pipe = -1;
    d->next = offset;
    d->end = offset + size;
    if (compression != COMPRESSION_NONE)
        error = decompress_load(d, &codecs[compression]);
    if (error) {
        decompress_close(d);
        return error;
    }
    *ret = d;
    return 0;
}

void decompress_close(struct decompressor *d)
{
    if (!d)
        return;
    if (d->pipe >= 0)
        close(d->pipe); /* a child that still writes ends by SIGPIPE */
    if (d->child > 0)
        waitpid(d->child, NULL, 0);
    if (!CONFINE && d->codec)
        d->codec->finish(d);
    if (d->library)
        dlclose(d->library);
    free(d);
}
