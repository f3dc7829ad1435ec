/* SPDX-License-Identifier: MIT */

/*
 * Floods the user-mode network: N times the first part of a datagram that never becomes whole, a
 * segment that opens a connection, and a datagram from another port. Then waits until the link
 * goes down, and sends once more.
 */
#include <linux/virtio_net.h>

#include "lib/virtio.h"

enum { RECEIVE, TRANSMIT };

#define HEADER 12u /* bytes: struct virtio_net_hdr_mrg_rxbuf */
#define FRAME  1514u
#define IP     (HEADER + 14u) /* offsets */
#define PORTS  (IP + 20u)
#define STATUS (VIRTIO_MMIO_CONFIG + 6u)

static struct virtio net;
static struct queue queues[2];

/* To 10.0.2.2, which nobody has behind it. The checksum is the device's to complete. */
static uint8_t frame[HEADER + FRAME] = {
    [HEADER] = 0x52,
    0x55,
    10,
    0,
    2,
    2,
    0x52,
    0x54,
    0,
    0x12,
    0x34,
    0x56,
    8,
    0,
    [IP] = 0x45,
    0,
    FRAME / 256,
    FRAME % 256 - 14,
    0,
    0,
    0,
    0,
    64,
    0,
    0,
    0,
    10,
    0,
    2,
    15,
    10,
    0,
    2,
    2,
};

static void put16(unsigned at, unsigned value)
{
    frame[at] = (uint8_t)(value >> 8);
    frame[at + 1] = (uint8_t)value;
}

/* Completes the header of IP, and sends the frame with `size` bytes of IP. */
static void send(unsigned protocol, unsigned fragment, unsigned size)
{
    uint32_t sum = 0;

    put16(IP + 2, size);
    put16(IP + 6, fragment);
    frame[IP + 9] = (uint8_t)protocol;
    put16(IP + 10, 0);
    for (unsigned i = 0; i < 20; i += 2)
        sum += (uint32_t)(frame[IP + i] << 8 | frame[IP + i + 1]);
    sum = (sum & 0xffff) + (sum >> 16);
    put16(IP + 10, (uint16_t)~sum);
    queue_submit(&queues[TRANSMIT], &(struct request){ .out = frame, .out_size = IP + size });
    virtio_notify(&net, TRANSMIT);
    queue_wait(&queues[TRANSMIT], 0);
}

static void flood(unsigned number)
{
    put16(IP + 4, number);       /* identification */
    put16(PORTS, 1024 + number); /* from */
    put16(PORTS + 2, 9);         /* to: discard */
    put16(PORTS + 4, 8);         /* of a datagram: its length */
    put16(PORTS + 6, 0);
    send(17, 0x2000, FRAME - 14);
    send(17, 0, 28);
    frame[PORTS + 12] = 0x50;
    frame[PORTS + 13] = 2; /* SYN */
    send(6, 0, 40);
}

int main(void)
{
    net = virtio_find(VIRTIO_ID_NET, 0);
    virtio_start(&net, ~0ull, queues, 2);
    for (unsigned i = 0; i < word_number(0); i++)
        flood(i);
    expect_equal(*(volatile uint8_t *)(net.base + STATUS), VIRTIO_NET_S_LINK_UP);
    print("up\n");
    wait_for(*(volatile uint8_t *)(net.base + STATUS) == 0);
    flood(0);
    print("down\n");
    return 0;
}
