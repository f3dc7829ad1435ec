/* SPDX-License-Identifier: MIT */

/*
 * A guest without an operating system that sends or receives frames as fast as its NIC can, from
 * ring 3. It polls the used ring and suppresses interrupts. Command line:
 *
 *     send|receive SIZE KILOTICKS
 *
 * Prints frames, ticks, and the number of notifications.
 */
#include <linux/virtio_net.h>

#include "board.h"
#include "load.h"
#include "x86_64/ring3.h"

#define ENTRIES 256u
#define HEADER  12u
#define BUFFER  2048u /* bytes, with the header */

enum { RECEIVE, TRANSMIT };

static struct descriptor descriptors[ENTRIES] __attribute__((aligned(4096)));
static volatile struct {
    uint16_t flags, idx, ring[ENTRIES], used_event;
} avail __attribute__((aligned(4096)));
static volatile struct {
    uint16_t flags, idx;
    struct used_entry ring[ENTRIES];
    uint16_t avail_event;
} used __attribute__((aligned(4096)));
static uint8_t buffers[ENTRIES][BUFFER];
static struct queue idle; /* the other direction */

/* Broadcast, from an arbitrary address, with an EtherType for experiments. */
static const uint8_t ethernet[] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x52,
                                    0x54, 0,    0,    0,    9,    0x88, 0xb5 };

static struct virtio net;
static unsigned queue;
static uint16_t offered, seen; /* next available index; used entries taken */
static uint64_t ticks, frames, kicks;

static void start_net(unsigned size)
{
    const struct queue_layout place = { (uintptr_t)descriptors, (uintptr_t)&avail, (uintptr_t)&used,
                                        ENTRIES };

    virtio_reset(&net);
    expect(virtio_negotiate(&net, 1ull << VIRTIO_F_VERSION_1 | 1ull << VIRTIO_RING_F_EVENT_IDX |
                                      1ull << VIRTIO_NET_F_MRG_RXBUF));
    virtio_set_up_queue(&net, queue, &place);
    virtio_add_queue(&net, !queue, &idle);
    virtio_driver_ok(&net);
    for (unsigned i = 0; i < ENTRIES; i++) {
        memcpy(buffers[i] + HEADER, ethernet, sizeof(ethernet));
        descriptors[i] =
            (struct descriptor){ (uintptr_t)buffers[i], queue == TRANSMIT ? HEADER + size : BUFFER,
                                 queue == TRANSMIT ? 0 : VRING_DESC_F_WRITE, 0 };
        avail.ring[offered++] = (uint16_t)i;
    }
}

/* Publishes the offered buffers; notifies if the device has not suppressed that. */
static void publish(void)
{
    uint16_t before = avail.idx;

    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    avail.idx = offered;
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    if ((uint16_t)(offered - used.avail_event - 1) >= (uint16_t)(offered - before))
        return;
    virtio_notify(&net, queue);
    kicks++;
}

/* Offers each used buffer again. */
static void run(void)
{
    uint64_t begin = load_now() + ticks / 8, end = begin + ticks, now;

    do {
        uint16_t until;

        if (avail.idx != offered)
            publish();
        avail.used_event = (uint16_t)(seen + 0x8000); /* never */
        until = used.idx;
        __atomic_thread_fence(__ATOMIC_SEQ_CST);
        now = load_now();
        if (now >= begin)
            frames += (uint16_t)(until - seen);
        if (until == seen)
            platform_relax();
        for (; seen != until; seen++)
            avail.ring[offered++ % ENTRIES] = (uint16_t)used.ring[seen % ENTRIES].id;
    } while (now < end);
}

int main(void)
{
    unsigned size = word_number(1);

    net = board_find(VIRTIO_ID_NET);
    queue = word_is(0, "send") ? TRANSMIT : RECEIVE;
    ticks = word_number(2) * 1000ull;
    expect(size >= sizeof(ethernet) && size <= BUFFER - HEADER);
    start_net(size);
    ring3_run(run);
    print("%lu %lu %lu\n", frames, ticks, kicks);
    return 0;
}
