/* SPDX-License-Identifier: MIT */

/*
 * Resolves 10.0.2.2, the user-mode network's gateway, by ARP, with valid and invalid frames. With
 * the second word "vhost", vhost-net serves the queues.
 */
#include <linux/virtio_net.h>

#include "lib/virtio.h"

enum { RECEIVE, TRANSMIT };

#define HEADER    12u /* bytes: struct virtio_net_hdr_mrg_rxbuf */
#define TYPE      12u /* offsets in a frame */
#define OPERATION 20u
#define ARP_SIZE  42u
#define FRAME     1518u

static struct virtio net;
static struct queue queues[2];
static uint8_t in[QUEUE_SIZE][HEADER + FRAME];

static uint8_t arp[HEADER + ARP_SIZE] = {
    [HEADER] = 0xff,
    0xff,
    0xff,
    0xff,
    0xff,
    0xff, /* to all */
    0x52,
    0x54,
    0,
    0x12,
    0x34,
    0x56,
    8,
    6, /* from us: ARP */
    0,
    1,
    8,
    0,
    6,
    4,
    0,
    1, /* who has, Ethernet and IPv4 */
    0x52,
    0x54,
    0,
    0x12,
    0x34,
    0x56,
    10,
    0,
    2,
    15, /* tell 10.0.2.15 */
    0,
    0,
    0,
    0,
    0,
    0,
    10,
    0,
    2,
    2, /* 10.0.2.2 */
};

static void send(const void *bytes, uint32_t size)
{
    queue_submit(&queues[TRANSMIT], &(struct request){ .out = bytes, .out_size = size });
    virtio_notify(&net, TRANSMIT);
    expect_equal(queue_wait(&queues[TRANSMIT], 0), 0);
}

static void post(unsigned index, uint32_t size)
{
    queue_describe(&queues[RECEIVE], index, in[index], size, VRING_DESC_F_WRITE, 0);
    queue_offer(&queues[RECEIVE], index);
}

/* Buffers are used in the order they were posted; frames other than the answer may arrive. */
static void expect_answer(unsigned *next, uint32_t size)
{
    for (bool answered = false; !answered; *next = (*next + 1) % QUEUE_SIZE) {
        const uint8_t *frame = in[*next] + HEADER;
        uint32_t written = queue_wait(&queues[RECEIVE], *next);

        answered = written >= HEADER + ARP_SIZE && frame[TYPE] == 8 && frame[TYPE + 1] == 6 &&
                   frame[OPERATION + 1] == 2;
        post(*next, size);
        virtio_notify(&net, RECEIVE);
    }
}

static void ask(uint64_t features)
{
    unsigned next = 0;

    virtio_start(&net, features, queues, 2);
    for (unsigned i = 0; i < QUEUE_SIZE; i++)
        post(i, sizeof(in[i]));
    virtio_notify(&net, RECEIVE);
    for (unsigned i = 0; i < 3; i++) {
        send(arp, sizeof(arp));
        expect_answer(&next, sizeof(in[0]));
    }
}

/* The backend keeps the answer until there are buffers. */
static void receive_with_no_buffers(void)
{
    unsigned next = 0;

    virtio_start(&net, ~0ull, queues, 2);
    send(arp, sizeof(arp));
    for (unsigned i = 0; i < QUEUE_SIZE; i++)
        post(i, sizeof(in[i]));
    virtio_notify(&net, RECEIVE);
    expect_answer(&next, sizeof(in[0]));
}

/* minivmm returns the buffer. vhost may retry the frame until the device is reset. */
static void send_bad(const void *bytes, uint32_t size)
{
    if (!word_is(1, "vhost")) {
        send(bytes, size);
        return;
    }
    queue_submit(&queues[TRANSMIT], &(struct request){ .out = bytes, .out_size = size });
    virtio_notify(&net, TRANSMIT);
    virtio_start(&net, ~0ull, queues, 2);
}

/* Invalid frames are dropped. */
static void bad_frames(void)
{
    static uint8_t bad[HEADER + ARP_SIZE];
    static const struct {
        uint8_t flags, gso_type;
        uint16_t hdr_len, gso_size, csum_start, csum_offset;
    } headers[] = {
        { VIRTIO_NET_HDR_F_NEEDS_CSUM, 0, 0, 0, 0xffff, 0xffff },
        { VIRTIO_NET_HDR_F_NEEDS_CSUM, VIRTIO_NET_HDR_GSO_TCPV4, 0xffff, 0xffff, 0, 0 },
        { 0, 0xff, 0xffff, 0, 0, 0 },
    };

    virtio_start(&net, ~0ull, queues, 2);
    for (uint32_t size = 1; size < HEADER + 14; size += 5)
        send_bad(arp, size);
    send_bad((void *)platform_free_ram(), 0x20000); /* larger than any frame */
    for (unsigned i = 0; i < ARRAY_SIZE(headers); i++) {
        memcpy(bad, arp, sizeof(bad));
        memcpy(bad, &headers[i], sizeof(headers[i]));
        send_bad(bad, sizeof(bad));
    }
}

int main(void)
{
    net = virtio_find(VIRTIO_ID_NET, 0);
    ask(~0ull);
    ask(~(1ull << VIRTIO_NET_F_MRG_RXBUF));
    receive_with_no_buffers();
    bad_frames();
    ask(~0ull);
    return 0;
}
