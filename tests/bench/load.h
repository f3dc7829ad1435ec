/* SPDX-License-Identifier: MIT */
#ifndef BENCH_LOAD_H
#define BENCH_LOAD_H

#include <stdbool.h>
#include <stdint.h>

/*
 * What is asked of a disk, and how long it took: the same in a guest and in a program of the host.
 * Needs no library. Times are ticks of the CPU's TSC, which runs alike in both.
 */
#define LOAD_MAX_DEPTH 128
#define LOAD_SAMPLES   (1u << 19) /* requests whose latency is kept */

struct load {
    bool write, random;
    uint32_t size;  /* bytes of a request */
    unsigned depth; /* requests at once */
    uint64_t begin, end;
    uint64_t blocks; /* of `size` on the disk */
    uint64_t next;
    uint64_t done; /* requests after `begin` */
    uint32_t latencies[LOAD_SAMPLES];
};

/* It begins soon after now, when all is warm, and takes `ticks`. */
void load_start(struct load *load, uint64_t disk_size, uint64_t ticks);

static inline uint64_t load_now(void)
{
    uint32_t low, high;

    __asm__ volatile("rdtsc" : "=a"(low), "=d"(high));
    return (uint64_t)high << 32 | low;
}

/* Where the next request goes; bytes. */
uint64_t load_offset(struct load *load);

/* A request of `started` is done. Should another one follow? */
bool load_done(struct load *load, uint64_t started, uint64_t now);

struct load_result {
    uint64_t requests, ticks;
    uint64_t mean, p50, p99; /* latency */
};
struct load_result load_result(struct load *load); /* puts the latencies in order */

#endif
