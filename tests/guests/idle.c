/* SPDX-License-Identifier: MIT */

/*
 * Leaves a device with doorbells that were rung before and after its reset, or, by the second word,
 * "live", used and running, and does nothing.
 */
#include "lib/polite.h"

static struct queue queues[MAX_QUEUES];

int main(void)
{
    const struct polite *device = polite_device();
    struct virtio v = virtio_find(device->id, 0);

    virtio_start(&v, ~0ull, queues, device->queues);
    polite_submit(device, &v, &queues[device->queue]);
    virtio_reset(&v);
    for (unsigned i = 0; i < device->queues; i++)
        virtio_notify(&v, i);
    if (word_is(1, "live")) {
        virtio_start(&v, ~0ull, queues, device->queues);
        polite_use(device, &v, &queues[device->queue]);
    }
    print("idle\n");
    platform_stop();
}
