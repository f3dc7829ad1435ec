/* SPDX-License-Identifier: MIT */
#ifndef BENCH_LOAD_H
#define BENCH_LOAD_H

#include <stdbool.h>
#include <stdint.h>

/*
 * Generates disk requests and collects their latencies, for both the guest and the program on the
 * host; needs no library. Times are TSC ticks, which have the same rate in both.
 */
#define LOAD_MAX_DEPTH 128
#define LOAD_SAMPLES   (1u << 19) /* latencies kept */

struct load {
    bool write, random;
    uint32_t size;  /* bytes of a request */
    unsigned depth; /* requests in flight */
    uint64_t begin, end;
    uint64_t blocks; /* of `size` bytes on the disk */
    uint64_t next;
    uint64_t done; /* requests completed after `begin` */
    uint32_t latencies[LOAD_SAMPLES];
};

/* Measures for `ticks`, after a warm-up of ticks / 8. */
void load_start(struct load *load, uint64_t disk_size, uint64_t ticks);

static inline uint64_t load_now(void)
{
    uint32_t low, high;

    __asm__ volatile("rdtsc" : "=a"(low), "=d"(high));
    return (uint64_t)high << 32 | low;
}

/* The offset of the next request in bytes. */
uint64_t load_offset(struct load *load);

/* Counts a completed request, begun at `started`; true if another one should follow. */
bool load_done(struct load *load, uint64_t started, uint64_t now);

struct load_result {
    uint64_t requests, ticks;
    uint64_t mean, p50, p99; /* latency */
};
struct load_result load_result(struct load *load); /* sorts the latencies */

#endif
