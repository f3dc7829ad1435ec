/* SPDX-License-Identifier: MIT */

/*
 * A guest without an operating system that puts load on its first disk from ring 3. Command line:
 *
 *     poll|interrupt OPERATION ORDER SIZE DEPTH KILOTICKS
 *
 * With "poll" it polls the used ring and suppresses interrupts. With "interrupt" it halts through
 * ring 0, and then reads InterruptStatus and writes InterruptACK like a driver. Prints requests,
 * ticks, mean, median and 99th percentile of the latency in ticks, the number of notifications,
 * their average duration in ticks, and the number of interrupts.
 */
#include <linux/virtio_blk.h>

#include "arch/x86_64/layout.h"
#include "board.h"
#include "load.h"
#include "x86_64/ring3.h"
#include "x86_64/x86.h"

#define ENTRIES   128u
#define DATA_BASE (32 * MIB) /* RAM that nothing else uses */

/* A request of three descriptors in an indirect table, as in Linux. */
struct slot {
    struct descriptor table[3];
    struct virtio_blk_outhdr header;
    volatile uint8_t status;
    uint64_t started;
} __attribute__((aligned(64)));

static struct descriptor descriptors[ENTRIES] __attribute__((aligned(4096)));
static volatile struct {
    uint16_t flags, idx, ring[ENTRIES], used_event;
} avail __attribute__((aligned(4096)));
static volatile struct {
    uint16_t flags, idx;
    struct used_entry ring[ENTRIES];
    uint16_t avail_event;
} used __attribute__((aligned(4096)));

static struct virtio disk;
static struct load load;
static struct slot slots[ENTRIES];
static uint16_t offered, seen; /* next available index; used entries taken */
static uint64_t kicks, kick_ticks, interrupts, errors;
static uint64_t disk_size, ticks;
static struct load_result result;
static bool polled;

static void start_disk(void)
{
    const struct queue_layout place = { (uintptr_t)descriptors, (uintptr_t)&avail, (uintptr_t)&used,
                                        ENTRIES };

    virtio_reset(&disk);
    expect(
        virtio_negotiate(&disk, 1ull << VIRTIO_F_VERSION_1 | 1ull << VIRTIO_RING_F_INDIRECT_DESC |
                                    1ull << VIRTIO_RING_F_EVENT_IDX | 1ull << VIRTIO_BLK_F_FLUSH));
    virtio_set_up_queue(&disk, 0, &place);
    virtio_driver_ok(&disk);
}

static void prepare(unsigned index)
{
    struct slot *slot = &slots[index];
    uint64_t data = DATA_BASE + (uint64_t)index * load.size;

    slot->header.type = load.write ? VIRTIO_BLK_T_OUT : VIRTIO_BLK_T_IN;
    slot->table[0] =
        (struct descriptor){ (uintptr_t)&slot->header, sizeof(slot->header), VRING_DESC_F_NEXT, 1 };
    slot->table[1] = (struct descriptor){
        data, load.size, (uint16_t)(VRING_DESC_F_NEXT | (load.write ? 0 : VRING_DESC_F_WRITE)), 2
    };
    slot->table[2] = (struct descriptor){ (uintptr_t)&slot->status, 1, VRING_DESC_F_WRITE, 0 };
    descriptors[index] = (struct descriptor){ (uintptr_t)slot->table, sizeof(slot->table),
                                              VRING_DESC_F_INDIRECT, 0 };
}

/* Adds a request to the available ring; publish() makes it visible. */
static void queue(unsigned index, uint64_t now)
{
    slots[index].header.sector = load_offset(&load) / 512;
    slots[index].status = 0xff;
    slots[index].started = now;
    avail.ring[offered++ % ENTRIES] = (uint16_t)index;
}

/* Publishes the queued requests; notifies if the device has not suppressed that. */
static void publish(void)
{
    uint16_t before = avail.idx;
    uint64_t from;

    if (before == offered)
        return;
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    avail.idx = offered;
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    if ((uint16_t)(offered - used.avail_event - 1) >= (uint16_t)(offered - before))
        return;
    from = load_now();
    virtio_notify(&disk, 0);
    kicks++;
    kick_ticks += load_now() - from;
}

/* Waits for a used entry. used_event requests an interrupt for it, or, polled, practically none. */
static void wait(void)
{
    avail.used_event = polled ? (uint16_t)(seen + 0x8000) : seen;
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    while (used.idx == seen) {
        if (polled) {
            platform_relax();
            continue;
        }
        ring3_halt();
        virtio_set(&disk, VIRTIO_MMIO_INTERRUPT_ACK,
                   virtio_get(&disk, VIRTIO_MMIO_INTERRUPT_STATUS));
        lapic_write(LAPIC_EOI, 0);
        interrupts++;
    }
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
}

static void run(void)
{
    unsigned in_flight = load.depth;

    load_start(&load, disk_size, ticks);
    for (unsigned i = 0; i < load.depth; i++) {
        prepare(i);
        queue(i, load_now());
    }
    while (in_flight > 0) {
        uint64_t now;
        uint16_t until;

        publish();
        wait();
        now = load_now();
        until = used.idx;
        for (; seen != until; seen++) {
            unsigned index = used.ring[seen % ENTRIES].id;

            errors += slots[index].status != VIRTIO_BLK_S_OK;
            if (load_done(&load, slots[index].started, now))
                queue(index, now);
            else
                in_flight--;
        }
    }
    result = load_result(&load);
}

static uint64_t capacity(void)
{
    return (virtio_get(&disk, VIRTIO_MMIO_CONFIG) |
            (uint64_t)virtio_get(&disk, VIRTIO_MMIO_CONFIG + 4) << 32) *
           512;
}

int main(void)
{
    disk = board_find(VIRTIO_ID_BLOCK);
    start_disk();
    disk_size = capacity();
    polled = word_is(0, "poll");
    load.write = word_is(1, "write");
    load.random = word_is(2, "random");
    load.size = word_number(3);
    load.depth = word_number(4);
    ticks = word_number(5) * 1000ull;
    expect(load.depth > 0 && load.depth <= ENTRIES && load.size > 0);
    ring3_run(run);
    expect_equal(errors, 0);
    print("%lu %lu %lu %lu %lu %lu %lu %lu\n", result.requests, result.ticks, result.mean,
          result.p50, result.p99, kicks, kicks ? kick_ticks / kicks : 0, interrupts);
    return 0;
}
