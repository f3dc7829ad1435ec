/* SPDX-License-Identifier: MIT */
#include "load.h"

void load_start(struct load *load, uint64_t disk_size, uint64_t ticks)
{
    load->blocks = disk_size / load->size;
    load->next = 1;
    load->done = 0;
    load->begin = load_now() + ticks / 8;
    load->end = load->begin + ticks;
}

uint64_t load_offset(struct load *load)
{
    uint64_t block = load->next;

    if (load->random) { /* xorshift: the same sequence in every run */
        load->next ^= load->next << 13;
        load->next ^= load->next >> 7;
        load->next ^= load->next << 17;
    } else {
        load->next++;
    }
    return block % load->blocks * load->size;
}

bool load_done(struct load *load, uint64_t started, uint64_t now)
{
    if (now >= load->end)
        return false;
    if (now >= load->begin) {
        uint64_t latency = now - started;

        if (load->done < LOAD_SAMPLES)
            load->latencies[load->done] = latency > UINT32_MAX ? UINT32_MAX : (uint32_t)latency;
        load->done++;
    }
    return true;
}

/* Shell sort: short, and fast enough. */
static void sort(uint32_t *values, uint64_t count)
{
    for (uint64_t gap = count / 2; gap > 0; gap = gap == 2 ? 1 : gap * 5 / 11)
        for (uint64_t i = gap; i < count; i++) {
            uint32_t value = values[i];
            uint64_t j = i;

            for (; j >= gap && values[j - gap] > value; j -= gap)
                values[j] = values[j - gap];
            values[j] = value;
        }
}

struct load_result load_result(struct load *load)
{
    uint64_t count = load->done < LOAD_SAMPLES ? load->done : LOAD_SAMPLES, sum = 0;

    if (count == 0)
        return (struct load_result){ .ticks = load->end - load->begin };
    sort(load->latencies, count);
    for (uint64_t i = 0; i < count; i++)
        sum += load->latencies[i];
    return (struct load_result){ load->done, load->end - load->begin, sum / count,
                                 load->latencies[count / 2], load->latencies[count * 99 / 100] };
}
