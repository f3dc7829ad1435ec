/* SPDX-License-Identifier: MIT */

/*
 * Notifies a device before and after its reset, then halts. With the second word "live" the device
 * is in use again by then.
 */
#include "lib/sanity.h"

static struct queue queues[MAX_QUEUES];

int main(void)
{
    const struct sanity *device = sanity_device();
    struct virtio v = virtio_find(device->id, 0);

    virtio_start(&v, ~0ull, queues, device->queues);
    sanity_submit(device, &v, &queues[device->queue]);
    virtio_reset(&v);
    for (unsigned i = 0; i < device->queues; i++)
        virtio_notify(&v, i);
    if (word_is(1, "live")) {
        virtio_start(&v, ~0ull, queues, device->queues);
        sanity_check(device, &v, &queues[device->queue]);
    }
    print("idle\n");
    platform_stop();
}
