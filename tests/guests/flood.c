/* SPDX-License-Identifier: MIT */

/*
 * Floods all devices from as many CPUs as the command line says: status writes, notifications,
 * configuration reads, full rings, bytes for the serial port. It never ends by itself; with "reset"
 * after the number it resets the machine again and again.
 */
#include "lib/virtio.h"

#define MAX_DEVICES 8
#define QUEUES      2
#define BOOT_MS     50

static struct virtio devices[MAX_DEVICES];
static unsigned device_count;
static struct queue queues[MAX_DEVICES][QUEUES];
static uint8_t buffer[4096];

static void find_devices(void)
{
    for (unsigned i = 0; i < MAX_DEVICES && platform_virtio(i); i++)
        if (platform_read(platform_virtio(i), 4) == 0x74726976)
            devices[device_count++].base = platform_virtio(i);
}

/* Fills the ring with requests, some of which are invalid. */
static void fill(struct queue *q, unsigned queue)
{
    for (unsigned i = 0; i < QUEUE_SIZE; i++) {
        queue_describe(q, i, buffer, sizeof(buffer), queue == i % 2 ? 0 : VRING_DESC_F_WRITE, 0);
        q->avail.ring[i] = (uint16_t)i;
    }
    q->avail.idx = QUEUE_SIZE;
}

static void flood_device(unsigned n)
{
    const struct virtio *v = &devices[n];

    virtio_set(v, VIRTIO_MMIO_STATUS, 0);
    virtio_set(v, VIRTIO_MMIO_STATUS, 3);
    virtio_set(v, VIRTIO_MMIO_DRIVER_FEATURES_SEL, 1);
    virtio_set(v, VIRTIO_MMIO_DRIVER_FEATURES, 1);
    virtio_set(v, VIRTIO_MMIO_STATUS, 11);
    for (unsigned i = 0; i < QUEUES; i++) {
        struct queue_layout place = queue_layout(&queues[n][i]);

        virtio_set_up_queue(v, i, &place);
        fill(&queues[n][i], i);
    }
    virtio_set(v, VIRTIO_MMIO_STATUS, 15);
    for (unsigned i = 0; i < 16; i++) {
        virtio_notify(v, i % QUEUES);
        platform_read(v->base + VIRTIO_MMIO_CONFIG + i % 8, 1);
        queues[n][i % QUEUES].avail.idx++;
    }
}

static void flood(void)
{
    for (unsigned n = 0;; n = (n + 1) % device_count) {
        flood_device(n);
        platform_put('.');
    }
}

int main(void)
{
    unsigned cpus = word_number(0);
    uint64_t end = platform_ms() + BOOT_MS;

    find_devices();
    print("flood of %u devices\n", device_count);
    for (unsigned i = 1; i < cpus; i++)
        expect(platform_start_cpu(i, flood));
    if (!word_is(1, "reset"))
        flood();
    while (platform_ms() < end)
        flood_device((unsigned)platform_ms() % device_count);
    platform_reset();
}
