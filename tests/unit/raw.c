/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fcntl.h>
#include <linux/loop.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "devices/block/block.h"
#include "devices/block/open.h"
#include "devices/block/raw.h"
#include "tests/unit/firmware.h"
#include "tests/unit/tree.h"
#include "tests/unit/unit.h"
#include "vmm/core/base.h"
#include "vmm/core/clock.h"

#define SIZE 65536

static const enum block_engine engines[] = { BLOCK_ENGINE_IO_URING, BLOCK_ENGINE_THREAD };

static char directory[] = "/tmp/minivmm-raw-XXXXXX";

/* A path in the test's own directory. Overwritten by the next call. */
static char *in_directory(const char *name)
{
    static char path[128];

    snprintf(path, sizeof(path), "%s/%s", directory, name);
    return path;
}

static char *image(const char *name, off_t size)
{
    char *path = in_directory(name);
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);

    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(ftruncate(fd, size), 0);
    close(fd);
    return path;
}

static int open_disk(struct block **ret, struct loop *loop, char *path, bool read_only)
{
    struct block_options options = { .path = path, .read_only = read_only };

    return block_open(ret, &options, loop);
}

START_TEST(what_is_not_a_disk_is_refused)
{
    struct loop *loop = loop_create();
    struct block *block = NULL;
    int watch;

    ck_assert_int_eq(open_disk(&block, loop, in_directory("missing"), false), -ENOENT);
    ck_assert_int_eq(open_disk(&block, loop, directory, false), -EISDIR);
    ck_assert_int_eq(open_disk(&block, loop, directory, true), -EISDIR);
    ck_assert_int_eq(open_disk(&block, loop, image("empty", 0), false), -EINVAL);
    ck_assert_int_eq(open_disk(&block, loop, image("odd", 513), false), -EINVAL);
    ck_assert_int_eq(open_disk(&block, loop, (char[]){ "/dev/null" }, false), -EINVAL);
    ck_assert_int_eq(mkfifo(in_directory("fifo"), 0600), 0);
    watch = tree_watch_opens(in_directory("fifo"));
    ck_assert_int_eq(open_disk(&block, loop, in_directory("fifo"), false), -EINVAL);
    ck_assert_int_eq(open_disk(&block, loop, in_directory("fifo"), true), -EINVAL);
    ck_assert(!tree_was_opened(watch));
    ck_assert_ptr_null(block);
    loop_destroy(loop);
}
END_TEST

/* Magic bytes `at` an offset, or if negative before the end of a file of `size` bytes. */
static const struct {
    off_t size, at;
    const char *magic;
    size_t length;
    const char *words;
} others[] = {
    { SIZE, 0, "QFI\xfb\0\0\0\3", 8,
      "is a qcow2 image, not a raw disk image: convert it with qemu" },
    { SIZE, 0, "QED\0", 4, "is a QED image" },
    { SIZE, 0, "conectix", 8, "is a VHD image" },
    { SIZE + 512, -512, "conectix", 8, "is a VHD image" },
    { SIZE + 511, -511, "conectix", 8, "is a VHD image" },
    { 512, -512, "conectix", 8, "is a VHD image" },
    { SIZE + 4096, -512, "conectix", 8, "is a VHD image" },
    { SIZE, 0, "vhdxfile", 8, "is a VHDX image" },
    { SIZE, 0, "KDMV", 4, "is a VMDK image" },
    { SIZE, 0, "COWD", 4, "is a VMDK image" },
    { SIZE, 0, "\xbe\xba\xfe\xca\0\0\0\0", 8, "is a VMDK image" },
    { 333, 0, "# Disk DescriptorFile\nversion=1\n", 32, "is a VMDK descriptor" },
    { SIZE, 64, "\x7f\x10\xda\xbe", 4, "is a VDI image" },
    { SIZE, 0, "WithoutFreeSpace", 16, "is a Parallels image" },
    { SIZE, -512, "koly", 4, "is a DMG image" },
    { 777, 0, "\xfd\x37zXZ\0", 6,
      "is compressed by xz, not a raw disk image: unpack it with unxz" },
    { SIZE, 0, "\x1f\x8b\x08", 3, "unpack it with gunzip" },
};

static char *image_with(off_t size, off_t at, const void *bytes, size_t length)
{
    char *path = image("other", size);
    int fd = open(path, O_WRONLY);

    ck_assert_int_eq(pwrite(fd, bytes, length, at < 0 ? size + at : at), (ssize_t)length);
    close(fd);
    return path;
}

/* A guest that takes it for a raw disk would destroy it. */
START_TEST(other_formats_are_refused)
{
    char *path = image_with(others[_i].size, others[_i].at, others[_i].magic, others[_i].length);
    struct block_options options = { .path = path };
    struct loop *loop = loop_create();
    struct block *block = NULL;
    int error;

    log_capture();
    for (unsigned direct = 0; direct < 2; direct++) {
        options.direct = direct;
        options.read_only = direct;
        error = block_open(&block, &options, loop);
        ck_assert_int_eq(error, -EINVAL);
        ck_assert(logged(others[_i].words) || direct); /* this file system may refuse O_DIRECT */
        ck_assert(ftruncate(STDERR_FILENO, 0) == 0);
    }
    ck_assert_ptr_null(block);

    /* A guest may have written that to a raw disk: then it is one if the user says so. */
    options = (struct block_options){ .path = path, .format_raw = true };
    error = block_open(&block, &options, loop);
    ck_assert_int_eq(error, others[_i].size % 512 ? -EINVAL : 0);
    if (error)
        ck_assert(logged("is not a multiple of 512"));
    else
        block_close(block);
    loop_destroy(loop);
}
END_TEST

/* The same bytes at other places are a raw disk's contents. */
START_TEST(what_only_resembles_another_format_is_raw)
{
    static const struct {
        off_t at;
        const char *magic;
    } near[] = { { 1, "QFI\xfb" }, { 512, "conectix" }, { -1024, "conectix" }, { -513, "koly" },
                 { 512, "KDMV" },  { 0, "# Disk" },     { -3, "con" } };
    struct loop *loop = loop_create();
    struct block *block;

    for (unsigned i = 0; i < ARRAY_SIZE(near); i++) {
        char *path = image_with(SIZE, near[i].at, near[i].magic, strlen(near[i].magic));

        ck_assert_int_eq(open_disk(&block, loop, path, false), 0);
        block_close(block);
    }
    loop_destroy(loop);
}
END_TEST

START_TEST(one_writer_or_many_readers)
{
    struct loop *loop = loop_create();
    char *path = image("shared", SIZE);
    struct block *a, *b;

    ck_assert_int_eq(open_disk(&a, loop, path, false), 0);
    ck_assert_int_eq(open_disk(&b, loop, path, false), -EBUSY); /* the same disk twice */
    ck_assert_int_eq(open_disk(&b, loop, path, true), -EBUSY);
    block_close(a);
    ck_assert_int_eq(open_disk(&a, loop, path, true), 0);
    ck_assert_int_eq(open_disk(&b, loop, path, true), 0);
    block_close(b);
    ck_assert_int_eq(open_disk(&b, loop, path, false), -EBUSY);
    block_close(a);
    loop_destroy(loop);
}
END_TEST

START_TEST(the_lock_ends_with_the_process)
{
    struct loop *loop = loop_create();
    char *path = image("killed", SIZE);
    struct block *block;
    int ready[2], status;
    pid_t child;
    char byte;

    ck_assert_int_eq(pipe(ready), 0);
    child = fork();
    if (child == 0) {
        if (open_disk(&block, loop, path, false) == 0 && write(ready[1], "x", 1) == 1)
            pause();
        _exit(1);
    }
    ck_assert_int_eq(read(ready[0], &byte, 1), 1);
    ck_assert_int_eq(open_disk(&block, loop, path, false), -EBUSY);
    kill(child, SIGKILL);
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert_int_eq(open_disk(&block, loop, path, false), 0);
    block_close(block);
    loop_destroy(loop);
}
END_TEST

struct ended {
    struct block_request request;
    unsigned count;
    int error;
};

static void request_done(struct block_request *request, int error)
{
    struct ended *ended = container_of(request, struct ended, request);

    ended->count++;
    ended->error = error;
}

static void completed(void *owner)
{
    ++*(unsigned *)owner;
}

/* Executes one request and returns its error. */
static int perform(struct block *block, struct block_request request)
{
    struct ended ended = { .request = request };
    unsigned batches = 0;

    ended.request.done = request_done;
    block->completed = completed;
    block->owner = &batches;
    block_submit(block, &ended.request);
    ck_assert_uint_eq(ended.count, 0); /* never from inside submit */
    block_commit(block);
    block_drain(block, BLOCK_NO_DEADLINE);
    ck_assert_uint_eq(ended.count, 1);
    ck_assert_uint_eq(batches, 1);
    return ended.error;
}

static struct block_request transfer(enum block_op op, uint64_t offset, struct iovec *iov,
                                     unsigned count)
{
    struct block_request request = { .op = op, .offset = offset, .data = { .iov = iov } };

    for (unsigned i = 0; i < count; i++)
        request.data.length += iov[i].iov_len;
    request.length = request.data.length;
    return request;
}

START_TEST(direct_accepts_unaligned_buffers)
{
    struct loop *loop = loop_create();
    struct block_options options = { .direct = true, .engine = engines[_i] };
    static char out[3 * 4096 + 64], in[3 * 4096 + 64] __attribute__((aligned(4096)));
    struct iovec odd[] = { { out + 7, 100 }, { out + 107, 8192 - 100 } };
    struct iovec even[] = { { in, 8192 } };
    struct block *block;
    int error;

    options.path = in_directory("direct");
    image("direct", SIZE);
    error = block_open(&block, &options, loop);
    if (error == -EINVAL) {
        loop_destroy(loop);
        unit_skip("no O_DIRECT here: a tmpfs of an old kernel");
    }
    ck_assert_int_eq(error, 0);
    for (unsigned i = 0; i < sizeof(out); i++)
        out[i] = (char)(i * 7);
    ck_assert_int_eq(perform(block, transfer(BLOCK_WRITE, 4096, odd, 2)), 0);
    ck_assert_int_eq(perform(block, transfer(BLOCK_READ, 4096, even, 1)), 0);
    ck_assert_mem_eq(in, out + 7, 8192);
    memset(out, 0, sizeof(out));
    odd[0] = (struct iovec){ out + 7, 100 };
    odd[1] = (struct iovec){ out + 107, 8192 - 100 };
    ck_assert_int_eq(perform(block, transfer(BLOCK_READ, 4096, odd, 2)), 0);
    ck_assert_mem_eq(out + 7, in, 8192);
    block_close(block);
    loop_destroy(loop);
}
END_TEST

/* On a file system that can zero a range, and on tmpfs, where zeros have to be written. */
START_TEST(zeroes_discards_and_flushes)
{
    struct loop *loop = loop_create();
    char in_memory[32];
    int fd = memfd_create("zeroes", MFD_CLOEXEC);
    struct block_options options = { .engine = engines[_i % 2], .path = in_memory };
    static char data[8192], zero[4096];
    struct block *block;

    snprintf(in_memory, sizeof(in_memory), "/proc/self/fd/%d", fd);
    ck_assert_int_eq(ftruncate(fd, SIZE), 0);
    if (_i >= 2)
        options.path = image("zeroes", SIZE);
    ck_assert_int_eq(block_open(&block, &options, loop), 0);
    for (unsigned i = 0; i < 4; i++) {
        struct block_request request = { .op = BLOCK_WRITE_ZEROES,
                                         .unmap = i & 1,
                                         .durable = i & 2,
                                         .offset = 4096,
                                         .length = 4096 };
        struct iovec all = { data, sizeof(data) };

        memset(data, 'z', sizeof(data));
        ck_assert_int_eq(perform(block, transfer(BLOCK_WRITE, 0, &all, 1)), 0);
        ck_assert_int_eq(perform(block, request), 0);
        all = (struct iovec){ data, sizeof(data) };
        ck_assert_int_eq(perform(block, transfer(BLOCK_READ, 0, &all, 1)), 0);
        ck_assert_int_eq(data[4095], 'z');
        ck_assert_mem_eq(data + 4096, zero, 4096);
    }
    ck_assert_int_eq(perform(block, (struct block_request){ .op = BLOCK_DISCARD, .length = 4096 }),
                     0);
    ck_assert_int_eq(perform(block, (struct block_request){ .op = BLOCK_FLUSH }), 0);
    block_close(block);
    close(fd);
    loop_destroy(loop);
}
END_TEST

START_TEST(a_durable_write_succeeds)
{
    struct loop *loop = loop_create();
    struct block_options options = { .engine = engines[_i] };
    static char data[512] = "durable";
    struct iovec iov = { data, sizeof(data) };
    struct block_request request = transfer(BLOCK_WRITE, 512, &iov, 1);
    struct block *block;

    request.durable = true;
    options.path = image("durable", SIZE);
    ck_assert_int_eq(block_open(&block, &options, loop), 0);
    ck_assert_int_eq(perform(block, request), 0);
    block_close(block);
    loop_destroy(loop);
}
END_TEST

/* Requests that do not fit into the ring are deferred, and complete. */
START_TEST(more_requests_than_ring_entries)
{
    enum { COUNT = 1000 };
    static struct ended ended[COUNT];
    static char data[512];
    static struct iovec iov[COUNT];
    struct loop *loop = loop_create();
    struct block_options options = { .engine = engines[_i] };
    unsigned batches = 0, ends = 0;
    struct block *block;

    options.path = image("many", SIZE);
    ck_assert_int_eq(block_open(&block, &options, loop), 0);
    block->completed = completed;
    block->owner = &batches;
    memset(ended, 0, sizeof(ended));
    for (unsigned i = 0; i < COUNT; i++) {
        iov[i] = (struct iovec){ data, sizeof(data) };
        ended[i].request = transfer(BLOCK_READ, 0, &iov[i], 1);
        ended[i].request.done = request_done;
        block_submit(block, &ended[i].request);
    }
    block_commit(block);
    block_drain(block, BLOCK_NO_DEADLINE);
    for (unsigned i = 0; i < COUNT; i++)
        ends += ended[i].count == 1 && ended[i].error == 0;
    ck_assert_uint_eq(ends, COUNT);
    block_close(block);
    loop_destroy(loop);
}
END_TEST

/* Creates a block device of 1 MiB with 4096-byte sectors; -1 without permission. */
static int loop_device(char path[32])
{
    struct loop_config config = { .block_size = 4096, .info.lo_flags = LO_FLAGS_AUTOCLEAR };
    int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC), number = -1, fd = -1;

    if (control >= 0)
        number = ioctl(control, LOOP_CTL_GET_FREE);
    close(control);
    if (number < 0)
        return -1;
    snprintf(path, 32, "/dev/loop%d", number);
    config.fd = (uint32_t)open(image("device", 1 << 20), O_RDWR | O_CLOEXEC);
    fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd >= 0 && ioctl(fd, LOOP_CONFIGURE, &config) < 0) {
        close(fd);
        fd = -1;
    }
    close((int)config.fd);
    return fd; /* the device is deleted at its last close */
}

/* On tmpfs the automatic choice is the thread engine, as io_uring would use a worker. */
START_TEST(tmpfs_uses_the_thread_engine)
{
    struct loop *loop = loop_create();
    int fd = memfd_create("disk", 0);
    char path[64], data[512];
    struct iovec iov = { data, sizeof(data) };
    struct ended ended = { .request = { .op = BLOCK_READ,
                                        .length = sizeof(data),
                                        .data = { .iov = &iov, .length = sizeof(data) },
                                        .done = request_done } };
    struct block *block;
    unsigned batches = 0;

    ck_assert_int_eq(ftruncate(fd, SIZE), 0);
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    ck_assert_int_eq(open_disk(&block, loop, path, true), 0);
    block->completed = completed;
    block->owner = &batches;
    block_submit(block, &ended.request);
    ck_assert_uint_eq(ended.count, 0);
    block_commit(block);
    ck_assert_uint_eq(ended.count, 1);
    ck_assert_int_eq(ended.error, 0);
    ck_assert_uint_eq(batches, 1);
    block_close(block);
    close(fd);
    loop_destroy(loop);
}
END_TEST

START_TEST(a_block_device)
{
    struct loop *loop = loop_create();
    char path[32];
    struct block_options options = { .engine = engines[_i], .path = path };
    static char data[8192];
    struct iovec iov = { data, sizeof(data) };
    struct block *block, *other;
    int fd = loop_device(path), mounted;

    if (fd < 0) {
        loop_destroy(loop);
        unit_skip("a loop device needs root, and a kernel that has them");
    }
    mounted = open(path, O_RDWR | O_EXCL | O_CLOEXEC); /* as a mount would claim it */
    ck_assert_int_ge(mounted, 0);
    ck_assert_int_eq(block_open(&block, &options, loop), -EBUSY);
    close(mounted);

    ck_assert_int_eq(block_open(&block, &options, loop), 0);
    ck_assert_uint_eq(block->size, 1 << 20);
    ck_assert_uint_eq(block->logical_size, 4096);
    ck_assert_int_eq(block_open(&other, &options, loop), -EBUSY);
    memset(data, 'b', sizeof(data));
    ck_assert_int_eq(perform(block, transfer(BLOCK_WRITE, 4096, &iov, 1)), 0);
    for (unsigned unmap = 0; unmap < 2; unmap++)
        ck_assert_int_eq(perform(block, (struct block_request){ .op = BLOCK_WRITE_ZEROES,
                                                                .unmap = unmap,
                                                                .offset = 4096,
                                                                .length = 4096 }),
                         0);
    ck_assert_int_eq(perform(block, (struct block_request){ .op = BLOCK_FLUSH }), 0);
    iov = (struct iovec){ data, sizeof(data) };
    ck_assert_int_eq(perform(block, transfer(BLOCK_READ, 4096, &iov, 1)), 0);
    ck_assert_int_eq(data[4095], 0);
    ck_assert_int_eq(data[4096], 'b');
    ck_assert_int_eq(
        perform(block, (struct block_request){ .op = BLOCK_DISCARD, .length = 1 << 20 }), 0);
    block_close(block);
    close(fd);
    loop_destroy(loop);
}
END_TEST

/* A pipe in place of a file: a read blocks until the test writes. */
START_TEST(a_drain_gives_up_at_its_deadline)
{
    struct loop *loop = loop_create();
    struct raw raw = { .loop = loop };
    char data[512] = "";
    struct iovec iov = { data, sizeof(data) };
    struct ended ended = { .request = transfer(BLOCK_READ, 0, &iov, 1) };
    unsigned batches = 0;
    struct block *block;
    uint64_t deadline;
    int ends[2];

    ck_assert_int_eq(pipe(ends), 0);
    raw.fd = ends[0];
    ck_assert_int_eq(raw_uring_create(&block, &raw), 0);
    block->completed = completed;
    block->owner = &batches;
    ended.request.done = request_done;
    ck_assert(block_drain(block, 0)); /* nothing is in flight */

    block_submit(block, &ended.request);
    deadline = clock_now_ns() + 20000000;
    ck_assert(!block_drain(block, deadline));
    ck_assert_uint_ge(clock_now_ns(), deadline);
    ck_assert(!block_drain(block, 0));
    ck_assert_uint_eq(ended.count, 0);
    ck_assert_int_eq(write(ends[1], "half", 4), 4);
    ck_assert(!block_drain(block, clock_now_ns() + 20000000)); /* the rest of a short read */
    memset(data + 4, 'x', sizeof(data) - 4);
    ck_assert_int_eq(write(ends[1], data + 4, sizeof(data) - 4), sizeof(data) - 4);
    ck_assert(block_drain(block, clock_now_ns() + 5000000000));
    ck_assert_uint_eq(ended.count, 1);
    ck_assert_int_eq(ended.error, 0);
    ck_assert_mem_eq(data, "halfxxxx", 8);
    block_close(block);
    close(ends[1]);
    loop_destroy(loop);
}
END_TEST

/* A file to copy to, on a file system that shares no blocks. */
static int copy_target(void)
{
    int fd = memfd_create("copy", MFD_CLOEXEC);

    ck_assert_int_ge(fd, 0);
    return fd;
}

static void check_copy(int from, int to)
{
    static uint8_t ours[SIZE], theirs[SIZE];
    struct stat a, b;

    ck_assert_int_eq(fstat(from, &a), 0);
    ck_assert_int_eq(fstat(to, &b), 0);
    ck_assert_int_eq(a.st_size, b.st_size);
    for (off_t at = 0; at < a.st_size; at += SIZE) {
        ssize_t size = pread(from, ours, SIZE, at);

        ck_assert_int_gt(size, 0);
        ck_assert_int_eq(pread(to, theirs, SIZE, at), size);
        ck_assert_mem_eq(ours, theirs, (size_t)size);
    }
}

#define COPIED (8u << 20) /* bytes of a disk with data in some places */

static const off_t places[] = { 0, 4096, 70000, 1 << 20, (3 << 20) - 1, COPIED - 512 };

/* With the page cache, without it, and with a layer above. */
static const struct block_options copied_options[] = {
    { .read_only = false }, { .direct = true }, { .read_only = true }, { .throw_away = true }
};

START_TEST(a_copy_has_the_same_bytes_and_holes)
{
    struct block_options options = copied_options[_i];
    struct loop *loop = loop_create();
    char *path = image("copied", COPIED);
    int from = open(path, O_RDWR), to = copy_target();
    struct block *block;
    struct stat source, copy;

    for (unsigned i = 0; i < ARRAY_SIZE(places); i++)
        ck_assert_int_eq(pwrite(from, "data here", i + 1, places[i]), (ssize_t)i + 1);
    options.path = path;
    if (block_open(&block, &options, loop) < 0 && options.direct)
        unit_skip("no O_DIRECT in /tmp");
    ck_assert_int_eq(block_copy(block, to, COPIED), 0);
    check_copy(from, to);
    ck_assert_int_eq(fstat(from, &source), 0);
    ck_assert_int_eq(fstat(to, &copy), 0);
    ck_assert_int_le(copy.st_blocks, source.st_blocks + 128);
    block_close(block);
    loop_destroy(loop);
    close(from);
    close(to);
}
END_TEST

START_TEST(a_copy_has_a_limit)
{
    struct loop *loop = loop_create();
    char *path = image("limited", COPIED);
    int from = open(path, O_RDWR), to = copy_target();
    struct block *block;

    for (off_t at = 0; at < 2 * SIZE; at += 512)
        ck_assert_int_eq(pwrite(from, "data", 4, at), 4);
    ck_assert_int_eq(open_disk(&block, loop, path, false), 0);
    ck_assert_int_eq(block_copy(block, to, SIZE), -EFBIG);
    ck_assert_int_eq(block_copy(block, to, 2 * SIZE), 0);
    check_copy(from, to);
    block_close(block);
    loop_destroy(loop);
    close(from);
    close(to);
}
END_TEST

/* Nothing of that may pass for a copy. */
START_TEST(a_copy_that_fails)
{
    struct loop *loop = loop_create();
    char *path = image("failing", SIZE);
    int from = open(path, O_RDWR), ends[2], full = open("/dev/full", O_WRONLY | O_CLOEXEC);
    struct block *block;

    ck_assert_int_eq(pwrite(from, "data", 4, 100), 4);
    ck_assert_int_eq(open_disk(&block, loop, path, false), 0);
    ck_assert_int_eq(pipe(ends), 0);
    ck_assert_int_lt(block_copy(block, ends[1], SIZE), 0);
    ck_assert_int_lt(block_copy(block, full, SIZE), 0);
    ck_assert_int_lt(block_copy(block, -1, SIZE), 0);
    ck_assert_int_lt(block_copy(block, open(path, O_RDONLY), SIZE), 0);
    ck_assert_int_eq(dup2(ends[0], block_descriptor(block)), block_descriptor(block));
    ck_assert_int_lt(block_copy(block, copy_target(), SIZE), 0); /* of what has no SEEK_DATA */
    block_close(block);
    loop_destroy(loop);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("raw");
    TCase *tcase = tcase_create("raw");
    char command[64];
    int status;

    if (!mkdtemp(directory))
        return EXIT_FAILURE;
    tcase_set_timeout(tcase, 30);
    tcase_add_test(tcase, what_is_not_a_disk_is_refused);
    tcase_add_loop_test(tcase, other_formats_are_refused, 0, ARRAY_SIZE(others));
    tcase_add_test(tcase, what_only_resembles_another_format_is_raw);
    tcase_add_test(tcase, one_writer_or_many_readers);
    tcase_add_test(tcase, the_lock_ends_with_the_process);
    tcase_add_loop_test(tcase, direct_accepts_unaligned_buffers, 0, 2);
    tcase_add_loop_test(tcase, zeroes_discards_and_flushes, 0, 4);
    tcase_add_loop_test(tcase, a_durable_write_succeeds, 0, 2);
    tcase_add_test(tcase, tmpfs_uses_the_thread_engine);
    tcase_add_loop_test(tcase, a_block_device, 0, 2);
    tcase_add_test(tcase, a_drain_gives_up_at_its_deadline);
    tcase_add_loop_test(tcase, more_requests_than_ring_entries, 0, 2);
    tcase_add_loop_test(tcase, a_copy_has_the_same_bytes_and_holes, 0, ARRAY_SIZE(copied_options));
    tcase_add_test(tcase, a_copy_has_a_limit);
    tcase_add_test(tcase, a_copy_that_fails);
    suite_add_tcase(suite, tcase);
    status = unit_run(suite);
    snprintf(command, sizeof(command), "rm -rf %s", directory);
    return system(command) == 0 ? status : EXIT_FAILURE;
}
