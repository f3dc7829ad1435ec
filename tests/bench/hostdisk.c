/* SPDX-License-Identifier: MIT */

/*
 *     hostdisk ENGINE FILE OPERATION ORDER SIZE DEPTH MS      the load of guestdisk.c, on the host
 *     hostdisk clock                                          TSC ticks per millisecond
 *
 * ENGINE is io_uring, or thread: one request after the other with preadv(), the best that a single
 * thread can do. The suffix "-direct" adds O_DIRECT.
 */
#include <fcntl.h>
#include <liburing.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "load.h"

#define RING_ENTRIES 128

static struct load load;
static int fd;
static struct iovec buffers[LOAD_MAX_DEPTH];
static uint64_t started[LOAD_MAX_DEPTH];

static void check(const char *what, long result)
{
    if (result >= 0)
        return;
    fprintf(stderr, "hostdisk: %s: %s\n", what, strerror((int)-result));
    exit(1);
}

static uint64_t ticks_per_ms(void)
{
    struct timespec from, to;
    uint64_t begin = load_now(), end;
    int64_t ns;

    clock_gettime(CLOCK_MONOTONIC, &from);
    usleep(50000);
    end = load_now();
    clock_gettime(CLOCK_MONOTONIC, &to);
    ns = (to.tv_sec - from.tv_sec) * 1000000000ll + to.tv_nsec - from.tv_nsec;
    return (end - begin) * 1000000 / (uint64_t)ns;
}

static void check_done(long bytes)
{
    check("transfer", bytes);
    if (bytes != load.size)
        check("short transfer", -EIO);
}

static void queue(struct io_uring *ring, unsigned slot, uint64_t now)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(ring);

    (load.write ? io_uring_prep_writev : io_uring_prep_readv)(sqe, fd, &buffers[slot], 1,
                                                              load_offset(&load));
    io_uring_sqe_set_data64(sqe, slot);
    started[slot] = now;
}

static void run_io_uring(void)
{
    struct io_uring ring;
    struct io_uring_cqe *cqe;
    unsigned in_flight = load.depth;

    check("io_uring", io_uring_queue_init(RING_ENTRIES, &ring, 0));
    for (unsigned slot = 0; slot < load.depth; slot++)
        queue(&ring, slot, load_now());
    while (in_flight > 0) {
        uint64_t now;

        check("submit", io_uring_submit_and_wait(&ring, 1));
        now = load_now();
        while (io_uring_peek_cqe(&ring, &cqe) == 0) {
            unsigned slot = (unsigned)io_uring_cqe_get_data64(cqe);

            check_done(cqe->res);
            io_uring_cqe_seen(&ring, cqe);
            if (load_done(&load, started[slot], now))
                queue(&ring, slot, now);
            else
                in_flight--;
        }
    }
}

static void run_thread(void)
{
    uint64_t begin, now = load_now();

    do {
        begin = now;
        check_done((load.write ? pwritev : preadv)(fd, buffers, 1, (off_t)load_offset(&load)));
        now = load_now();
    } while (load_done(&load, begin, now));
}

static void make_buffers(void)
{
    char *memory = aligned_alloc(4096, (size_t)load.depth * load.size);

    check("memory", memory ? 0 : -ENOMEM);
    memset(memory, 1, (size_t)load.depth * load.size);
    for (unsigned slot = 0; slot < load.depth; slot++)
        buffers[slot] = (struct iovec){ memory + (size_t)slot * load.size, load.size };
}

int main(int argc, char **argv)
{
    struct load_result result;
    struct stat st;

    if (argc == 2 && strcmp(argv[1], "clock") == 0)
        return printf("%llu\n", (unsigned long long)ticks_per_ms()) < 0;
    if (argc != 8)
        return 2;
    load.write = strcmp(argv[3], "write") == 0;
    load.random = strcmp(argv[4], "random") == 0;
    load.size = (uint32_t)atoi(argv[5]);
    load.depth = (unsigned)atoi(argv[6]);
    if (load.depth == 0 || load.depth > LOAD_MAX_DEPTH || load.size == 0)
        return 2;
    fd = open(argv[2], O_RDWR | O_CLOEXEC | (strstr(argv[1], "-direct") ? O_DIRECT : 0));
    check(argv[2], fd < 0 ? -errno : 0);
    check(argv[2], fstat(fd, &st) < 0 ? -errno : 0);
    make_buffers();
    load_start(&load, (uint64_t)st.st_size, ticks_per_ms() * strtoull(argv[7], NULL, 10));
    (strncmp(argv[1], "thread", 6) ? run_io_uring : run_thread)();
    result = load_result(&load);
    printf("%llu %llu %llu %llu %llu\n", (unsigned long long)result.requests,
           (unsigned long long)result.ticks, (unsigned long long)result.mean,
           (unsigned long long)result.p50, (unsigned long long)result.p99);
    return 0;
}
