/* SPDX-License-Identifier: MIT */

/* Echoes input of the virtio console, up to a full stop. */
#include <linux/virtio_console.h>

#include "lib/virtio.h"

enum { RECEIVE, TRANSMIT };

#define EMERGENCY_WRITE (VIRTIO_MMIO_CONFIG + 8)

static struct virtio console;
static struct queue queues[2];
static char bytes[64];

static void transmit(uint32_t count)
{
    queue_submit(&queues[TRANSMIT], &(struct request){ .out = bytes, .out_size = count });
    virtio_notify(&console, TRANSMIT);
    expect_equal(queue_wait(&queues[TRANSMIT], 0), 0);
}

static uint32_t receive(void)
{
    queue_submit(&queues[RECEIVE], &(struct request){ .in = bytes, .in_size = sizeof(bytes) });
    virtio_notify(&console, RECEIVE);
    return queue_wait(&queues[RECEIVE], 0);
}

int main(void)
{
    uint32_t count;

    console = virtio_find(VIRTIO_ID_CONSOLE, 0);
    expect(virtio_device_features(&console) & 1ull << VIRTIO_CONSOLE_F_EMERG_WRITE);
    virtio_set(&console, EMERGENCY_WRITE, 'E'); /* before initialization */
    virtio_start(&console, ~0ull, queues, 2);
    do {
        count = receive();
        expect(count > 0 && count <= sizeof(bytes));
        transmit(count);
    } while (bytes[count - 1] != '.');
    return 0;
}
