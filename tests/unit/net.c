/* SPDX-License-Identifier: MIT */
#include "devices/virtio/net.h"

#include <errno.h>
#include <linux/virtio_net.h>
#include <linux/virtio_ring.h>
#include <string.h>

#include "devices/net/net.h"
#include "tests/unit/driver.h"
#include "tests/unit/unit.h"
#include "vmm/core/base.h"
#include "vmm/core/clock.h"
#include "vmm/core/state.h"

#define RX        0
#define TX        1
#define MERGEABLE BIT(VIRTIO_NET_F_MRG_RXBUF)
#define EVENT_IDX BIT(VIRTIO_RING_F_EVENT_IDX)
#define CSUM      BIT(VIRTIO_NET_F_CSUM)
#define TSO4      BIT(VIRTIO_NET_F_HOST_TSO4)
#define OFFLOADS  (CSUM | TSO4 | BIT(VIRTIO_NET_F_GUEST_CSUM) | BIT(VIRTIO_NET_F_GUEST_TSO4))

/* A back-end that records sent frames and has `left` frames to receive, filled by their number. */
struct backend {
    struct net net;
    struct poller poller;
    bool wanted, closed, paused;
    uint64_t offloads;

    unsigned left, received;
    size_t size; /* bytes of each frame, with header */
    void (*hook)(void);

    int error; /* returned by send() */
    unsigned sent;
    struct net_header header;
    size_t sent_size;
    uint8_t sent_bytes[64];
};

static struct backend backend;
static struct driver d;
static const uint8_t mac[6] = { 2, 0, 0, 1, 2, 3 };

static int backend_send(struct net *net, const struct net_header *header, struct sg *frame)
{
    if (backend.hook)
        backend.hook();
    if (backend.error)
        return backend.error;
    backend.sent++;
    backend.header = *header;
    backend.sent_size = frame->length;
    sg_read(frame, backend.sent_bytes, frame->length < 64 ? frame->length : 64);
    return 0;
}

static uint8_t backend_byte(unsigned frame, size_t at)
{
    return (uint8_t)(frame * 7 + at % 251);
}

static ssize_t backend_receive(struct net *net, struct sg *room)
{
    if (backend.left == 0)
        return -EAGAIN;
    ck_assert_uint_ge(room->length, NET_HEADER_SIZE + NET_FRAME_MAX);
    if (backend.hook)
        backend.hook();
    for (size_t at = 0; at < backend.size; at++) {
        uint8_t byte = backend_byte(backend.received, at);

        ck_assert(sg_write(room, &byte, 1));
    }
    backend.left--;
    backend.received++;
    return (ssize_t)backend.size;
}

static void backend_want_receive(struct net *net, bool want)
{
    backend.wanted = want;
}

static void backend_set_offloads(struct net *net, uint64_t features)
{
    backend.offloads = features;
}

static void backend_pause(struct net *net)
{
    ck_assert(!backend.paused);
    backend.paused = true;
}

static void backend_resume(struct net *net)
{
    backend.paused = false;
}

static void backend_close(struct net *net)
{
    backend.closed = true;
}

static const struct net_ops backend_ops = {
    .send = backend_send,
    .receive = backend_receive,
    .want_receive = backend_want_receive,
    .set_offloads = backend_set_offloads,
    .pause = backend_pause,
    .resume = backend_resume,
    .close = backend_close,
};

static void backend_prepare(struct poller *poller, struct poll_set *set, uint32_t *timeout_ms)
{
    if (backend.wanted && !backend.paused && backend.left > 0)
        *timeout_ms = 0;
}

static void backend_dispatch(struct poller *poller, const struct poll_set *set)
{
    if (backend.wanted && !backend.paused && backend.left > 0)
        backend.net.client.readable(backend.net.client.owner);
}

static void setup(void)
{
    backend = (struct backend){
        .net = { .ops = &backend_ops, .offloads = OFFLOADS, .mtu = 9000 },
        .poller = { backend_prepare, backend_dispatch },
        .size = 72,
    };
    driver_init(&d);
    loop_set_poller(d.loop, &backend.poller);
    ck_assert_int_eq(virtio_net_create(&d.device, "net0", &backend.net, mac, d.mem, d.loop), 0);
}

static void teardown(void)
{
    driver_finish(&d);
    ck_assert(backend.closed);
}

static void start(uint64_t features)
{
    ck_assert(driver_start(&d, d.device, features));
}

static void turn(unsigned rounds)
{
    while (rounds--)
        loop_turn(d.loop, 0);
}

/* The receive buffers lie 32 KiB apart, one for each descriptor. */
static uint64_t place(unsigned index)
{
    return DRIVER_BUFFERS + index * 0x8000ull;
}

static void post(unsigned index, uint32_t size)
{
    driver_describe(&d, RX, index, place(index), size, DRIVER_WRITE, 0);
    driver_publish(&d, RX, (uint16_t)index);
}

/* The next used buffer of the receive queue must be `head` with `size` bytes. */
static void expect(unsigned head, uint32_t size)
{
    uint32_t used, written;

    ck_assert(driver_wait(&d, RX, &used, &written));
    ck_assert_uint_eq(used, head);
    ck_assert_uint_eq(written, size);
}

static void expect_nothing(unsigned queue)
{
    uint16_t seen = d.used_seen[queue];
    uint64_t idx = 0x10000 + queue * 0x10000ull + 0x8002; /* where driver.c has used->idx */

    turn(3);
    ck_assert_uint_eq(le16_load(driver_ram(&d, idx)), seen);
}

/* Compares `size` bytes at `addr` with frame `number` from byte `from`, except num_buffers. */
static void expect_bytes(uint64_t addr, size_t size, unsigned number, size_t from)
{
    const uint8_t *bytes = driver_ram(&d, addr);

    for (size_t i = 0; i < size; i++)
        if (from + i != 10 && from + i != 11)
            ck_assert_msg(bytes[i] == backend_byte(number, from + i), "byte %zu of frame %u",
                          from + i, number);
}

static unsigned num_buffers(unsigned index)
{
    return le16_load(driver_ram(&d, place(index) + 10));
}

START_TEST(configuration_space_and_features)
{
    struct {
        uint8_t mac[6];
        le16 status, max_pairs, mtu;
    } config;
    uint8_t space[VIRTIO_MAX_CONFIG];

    ck_assert_uint_eq(virtio_offered_features(d.device),
                      BIT(VIRTIO_F_VERSION_1) | EVENT_IDX | BIT(VIRTIO_RING_F_INDIRECT_DESC) |
                          BIT(VIRTIO_NET_F_MAC) | BIT(VIRTIO_NET_F_STATUS) | BIT(VIRTIO_NET_F_MTU) |
                          MERGEABLE | OFFLOADS);
    virtio_read_config(d.device, space);
    memcpy(&config, space, sizeof(config));
    ck_assert_mem_eq(config.mac, mac, 6);
    ck_assert_uint_eq(le16_load(&config.status), VIRTIO_NET_S_LINK_UP);
    ck_assert_uint_eq(le16_load(&config.mtu), 9000);

    start(CSUM);
    ck_assert_uint_eq(backend.offloads & OFFLOADS, CSUM);
    virtio_reset(d.device);
    ck_assert_uint_eq(backend.offloads, 0);
    ck_assert(!backend.wanted);
}
END_TEST

START_TEST(frame_larger_than_the_buffer)
{
    start(0);
    post(0, 71);
    post(1, 72);
    backend.left = 2;
    driver_kick_if_asked(&d, RX);
    expect(0, 0);
    expect(1, 72);
    expect_bytes(place(1), 72, 1, 0);
    ck_assert_uint_eq(num_buffers(1), 1);
}
END_TEST

START_TEST(frame_over_several_buffers)
{
    start(MERGEABLE | EVENT_IDX);
    backend.size = 1200;
    backend.left = 2;
    for (unsigned i = 0; i < 6; i++)
        post(i, 512);
    driver_kick_if_asked(&d, RX);
    for (unsigned i = 0; i < 6; i++) {
        expect(i, i % 3 == 2 ? 1200 - 1024 : 512);
        expect_bytes(place(i), i % 3 == 2 ? 176 : 512, i / 3, i % 3 * 512);
    }
    ck_assert_uint_eq(num_buffers(0), 3);
    ck_assert_uint_eq(num_buffers(3), 3);
}
END_TEST

START_TEST(frame_waits_for_the_last_buffer)
{
    start(MERGEABLE | (_i ? EVENT_IDX : 0));
    backend.size = 1400;
    backend.left = 2;
    for (unsigned i = 0; i < 2; i++)
        post(i, 512);
    driver_kick_if_asked(&d, RX);
    expect_nothing(RX);
    ck_assert(!backend.wanted);

    for (unsigned i = 2; i < 6; i++)
        post(i, 512);
    driver_kick_if_asked(&d, RX);
    for (unsigned i = 0; i < 6; i++) {
        expect(i, i % 3 == 2 ? 1400 - 1024 : 512);
        expect_bytes(place(i), i % 3 == 2 ? 376 : 512, i / 3, i % 3 * 512);
    }
    ck_assert_uint_eq(backend.received, 2);
}
END_TEST

/* As before, but the NIC expected a smaller frame and read it. */
START_TEST(jumbo_frame_waits_for_the_last_buffer)
{
    start(MERGEABLE | EVENT_IDX);
    backend.size = 9000;
    for (unsigned i = 0; i < 2; i++)
        post(i, 4000);
    driver_kick_if_asked(&d, RX);
    backend.left = 1;
    expect_nothing(RX);
    post(2, 4000);
    driver_kick_if_asked(&d, RX);
    expect(0, 4000);
    expect(1, 4000);
    expect(2, 1000);
    expect_bytes(place(2), 1000, 0, 8000);
}
END_TEST

START_TEST(largest_frame_in_small_buffers)
{
    const uint32_t size = 2048;

    start(OFFLOADS | MERGEABLE);
    backend.size = NET_HEADER_SIZE + NET_FRAME_MAX;
    backend.left = 1;
    for (unsigned i = 0; i < 33; i++)
        post(i, size);
    driver_kick_if_asked(&d, RX);
    for (unsigned i = 0; i < 32; i++)
        expect(i, size);
    expect(32, NET_HEADER_SIZE + NET_FRAME_MAX - 32 * size);
    ck_assert_uint_eq(num_buffers(0), 33);
    expect_bytes(place(31), size, 0, 31 * size);
}
END_TEST

/* Large frames after small ones and the reverse: the expected size is often wrong. */
START_TEST(frames_of_changing_sizes)
{
    static const uint32_t frames[] = { 72, 5000, 72, 300, 5000, 5000, 16, 1024, 1025 };
    unsigned buffer = 0;

    start(MERGEABLE | EVENT_IDX);
    for (unsigned i = 0; i < 32; i++)
        post(i, 1024);
    driver_kick_if_asked(&d, RX);
    for (unsigned i = 0; i < ARRAY_SIZE(frames); i++) {
        unsigned first = buffer;

        backend.size = frames[i];
        backend.left = 1;
        for (uint32_t at = 0; at < frames[i]; at += 1024, buffer++) {
            expect(buffer, frames[i] - at < 1024 ? frames[i] - at : 1024);
            expect_bytes(place(buffer), frames[i] - at < 1024 ? frames[i] - at : 1024, i, at);
        }
        ck_assert_uint_eq(num_buffers(first), buffer - first);
    }
}
END_TEST

START_TEST(frame_larger_than_all_buffers)
{
    start(MERGEABLE);
    backend.left = 2;
    for (unsigned i = 0; i < d.queue_size; i++)
        post(i, 1);
    driver_kick_if_asked(&d, RX);
    for (unsigned i = 0; i < d.queue_size; i++)
        expect(i, 0);
    ck_assert(!driver_broken(&d));

    post(0, 72);
    driver_kick_if_asked(&d, RX);
    expect(0, 72);
    expect_bytes(place(0), 72, 1, 0);
}
END_TEST

START_TEST(buffers_smaller_than_the_header)
{
    start(MERGEABLE);
    backend.left = 1;
    for (unsigned i = 0; i < 12; i++)
        post(i, i % 3 * 6); /* 0, 6, 12, 0, ... */
    driver_kick_if_asked(&d, RX);
    for (unsigned i = 0; i < 12; i++)
        expect(i, i % 3 * 6);
    expect_bytes(place(1), 6, 0, 0);
    ck_assert_uint_eq(le16_load(driver_ram(&d, place(2) + 4)), 12);
    expect_bytes(place(11), 12, 0, 60);
}
END_TEST

START_TEST(buffer_of_many_pieces)
{
    start(_i ? MERGEABLE : 0);
    backend.left = 1;
    for (unsigned i = 0; i < 60; i++)
        driver_describe(&d, RX, i, DRIVER_BUFFERS + 2 * i, 2,
                        DRIVER_WRITE | (i < 59 ? DRIVER_NEXT : 0), (uint16_t)(i + 1));
    driver_publish(&d, RX, 0);
    driver_kick_if_asked(&d, RX);
    expect(0, 72);
    expect_bytes(DRIVER_BUFFERS, 72, 0, 0);
    ck_assert_uint_eq(num_buffers(0), 1);
}
END_TEST

START_TEST(empty_receive_chain)
{
    start(0);
    backend.left = 2;
    driver_describe(&d, RX, 0, DRIVER_BUFFERS, 100, 0, 0); /* readable only */
    driver_publish(&d, RX, 0);
    post(1, 100);
    driver_kick_if_asked(&d, RX);
    expect(0, 0);
    expect(1, 72);
}
END_TEST

START_TEST(receive_without_buffers)
{
    start(_i ? EVENT_IDX : 0);
    backend.left = 3;
    turn(3);
    ck_assert(!backend.wanted);
    ck_assert_uint_eq(backend.received, 0);

    for (unsigned i = 0; i < 3; i++) {
        post(i, 1600);
        driver_kick_if_asked(&d, RX);
        expect(i, 72);
        expect_bytes(place(i), 72, i, 0);
        turn(2);
        ck_assert(!backend.wanted);
    }
}
END_TEST

/* CVE-2020-16843: a full queue, whose buffers are reposted one by one with a kick for each. */
START_TEST(full_queue_loses_no_notification)
{
    start((_i & 1 ? EVENT_IDX : 0) | (_i & 2 ? MERGEABLE : 0));
    for (unsigned i = 0; i < d.queue_size; i++)
        post(i, 1600);
    driver_kick_if_asked(&d, RX);
    backend.left = 1000;
    for (unsigned i = 0; i < 1000; i++) {
        expect(i % d.queue_size, 72);
        expect_bytes(place(i % d.queue_size), 72, i, 0);
        post(i % d.queue_size, 1600);
        driver_kick_if_asked(&d, RX);
    }
    ck_assert(!driver_broken(&d));
}
END_TEST

START_TEST(reset_with_a_frame_waiting)
{
    start(MERGEABLE);
    backend.left = 1;
    backend.size = 1400;
    post(0, 512);
    driver_kick_if_asked(&d, RX);
    expect_nothing(RX);
    ck_assert_uint_eq(backend.received, 1);

    virtio_reset(d.device);
    memset(driver_ram(&d, 0x10000), 0, 0x20000);
    start(0);
    backend.left = 1;
    post(0, 1600);
    driver_kick_if_asked(&d, RX);
    expect(0, 1400);
    expect_bytes(place(0), 1400, 1, 0);
}
END_TEST

START_TEST(broken_receive_queue)
{
    start(0);
    backend.left = 1;
    driver_publish(&d, RX, 999);
    driver_kick_if_asked(&d, RX);
    ck_assert(driver_broken(&d));
    ck_assert(!backend.wanted);
    turn(3);
    ck_assert_uint_eq(backend.received, 0);
}
END_TEST

static void pause_nic(void)
{
    ck_assert_int_eq(virtio_pause(d.device, clock_now_ns() + 1000000000), 0);
}

START_TEST(a_paused_nic_receives_nothing)
{
    static uint8_t before[0x20000];

    start(_i ? MERGEABLE | EVENT_IDX : 0);
    post(0, 1600);
    post(1, 1600);
    driver_kick_if_asked(&d, RX); /* popped ahead */
    pause_nic();
    ck_assert(backend.paused);
    backend.left = 1;
    memcpy(before, driver_ram(&d, 0x10000), sizeof(before));
    expect_nothing(RX);
    backend.net.client.readable(backend.net.client.owner); /* a back-end should not, but may */
    backend.net.client.writable(backend.net.client.owner);
    ck_assert_uint_eq(backend.received, 0);
    ck_assert_mem_eq(driver_ram(&d, 0x10000), before, sizeof(before));

    virtio_resume(d.device);
    ck_assert(!backend.paused);
    expect(0, 72);
    expect_bytes(place(0), 72, 0, 0);
    ck_assert_uint_eq(d.interrupts, 1);
}
END_TEST

/* Pauses with a frame partly in two guest buffers; its rest has no buffer until after the pause. */
static void pause_with_undelivered_frame(void)
{
    start(MERGEABLE | EVENT_IDX);
    backend.size = 9000;
    backend.left = 2;
    post(0, 4000);
    driver_kick_if_asked(&d, RX);
    post(1, 4000);
    driver_kick_if_asked(&d, RX);
    expect_nothing(RX);
    ck_assert_uint_eq(backend.received, 1);
    pause_nic();
    memset(driver_ram(&d, place(0)), 0xee, 4000); /* the frame is no longer in guest memory */
    memset(driver_ram(&d, place(1)), 0xee, 4000);
}

static void expect_two_frames(void)
{
    for (unsigned i = 2; i < 6; i++)
        post(i, 4000);
    driver_kick_if_asked(&d, RX);
    for (unsigned i = 0; i < 6; i++) {
        expect(i, i % 3 == 2 ? 1000 : 4000);
        expect_bytes(place(i), i % 3 == 2 ? 1000 : 4000, i / 3, i % 3 * 4000);
    }
    ck_assert_uint_eq(num_buffers(0), 3);
    ck_assert(!driver_broken(&d));
}

START_TEST(an_undelivered_frame_survives_pauses)
{
    pause_with_undelivered_frame();
    for (unsigned i = 0; i < 3; i++) {
        virtio_resume(d.device);
        expect_nothing(RX);
        pause_nic();
    }
    virtio_resume(d.device);
    expect_two_frames();
}
END_TEST

static void walk(struct virtio_device *v, struct state *s)
{
    state_section(s, "net0", 1);
    virtio_state(v, s);
    state_end_section(s);
}

static void save(struct state *ret)
{
    state_begin_save(ret);
    walk(d.device, ret);
    ck_assert_int_eq(ret->error, 0);
}

static int load(struct virtio_device *v, const struct state *saved)
{
    struct state in;

    state_begin_load(&in, saved->bytes, saved->at);
    walk(v, &in);
    return state_finish(&in);
}

START_TEST(an_undelivered_frame_is_part_of_the_state)
{
    struct state saved, again;
    struct virtio_device *old = d.device;

    pause_with_undelivered_frame();
    save(&saved);
    ck_assert_int_eq(virtio_net_create(&d.device, "net0", &backend.net, mac, d.mem, d.loop), 0);
    driver_find(&d, d.device);
    ck_assert_int_eq(load(d.device, &saved), 0);
    save(&again);
    ck_assert_uint_eq(again.at, saved.at);
    ck_assert_mem_eq(again.bytes, saved.bytes, saved.at);
    virtio_destroy(old);
    backend.offloads = 1;
    virtio_resume(d.device);
    ck_assert_uint_eq(backend.offloads, d.device->features);
    expect_two_frames();
    state_finish(&saved);
    state_finish(&again);
}
END_TEST

START_TEST(a_new_nic_with_the_state_receives_and_sends)
{
    struct virtio_device *old = d.device;
    struct state saved;

    start(_i & 1 ? MERGEABLE : 0);
    post(0, 1600);
    driver_kick_if_asked(&d, RX); /* popped ahead */
    pause_nic();
    save(&saved);
    ck_assert_int_eq(virtio_net_create(&d.device, "net0", &backend.net, mac, d.mem, d.loop), 0);
    driver_find(&d, d.device);
    ck_assert_int_eq(load(d.device, &saved), 0);
    virtio_destroy(old);
    backend.left = 2;
    virtio_resume(d.device);
    expect(0, 72);
    post(1, 1600);
    driver_kick_if_asked(&d, RX);
    expect(1, 72);
    driver_describe(&d, TX, 0, DRIVER_BUFFERS, 100, 0, 0);
    driver_publish(&d, TX, 0);
    driver_kick_if_asked(&d, TX);
    ck_assert(driver_wait(&d, TX, NULL, NULL));
    ck_assert_uint_eq(backend.sent, 1);
    state_finish(&saved);
}
END_TEST

START_TEST(state_of_another_mac_address_is_refused)
{
    static const uint8_t other_mac[6] = { 2, 0, 0, 1, 2, 4 };
    struct virtio_device *old = d.device;
    static struct net other_net = { .ops = &backend_ops, .offloads = OFFLOADS, .mtu = 9000 };
    struct virtio_device *other;
    struct state saved;

    start(0);
    pause_nic();
    save(&saved);
    ck_assert_int_eq(virtio_net_create(&other, "net0", &other_net, other_mac, d.mem, d.loop), 0);
    driver_find(&d, other);
    ck_assert_int_eq(load(other, &saved), -EINVAL);
    virtio_destroy(other);
    driver_find(&d, old);
    state_finish(&saved);
}
END_TEST

/* A partly copied frame must leave nothing behind once it was delivered. */
START_TEST(paused_after_a_deferred_frame_was_delivered)
{
    start(MERGEABLE | EVENT_IDX);
    backend.size = 9000;
    backend.left = 1;
    for (unsigned i = 0; i < 3; i++) {
        post(i, 4000);
        driver_kick_if_asked(&d, RX);
    }
    for (unsigned i = 0; i < 3; i++)
        expect(i, i == 2 ? 1000 : 4000);
    pause_nic();
    virtio_resume(d.device);
    backend.left = 1;
    expect_nothing(RX);
    for (unsigned i = 3; i < 6; i++)
        post(i, 4000);
    driver_kick_if_asked(&d, RX);
    for (unsigned i = 3; i < 6; i++)
        expect(i, i == 5 ? 1000 : 4000);
    expect_bytes(place(5), 1000, 1, 8000);
}
END_TEST

START_TEST(reset_while_paused)
{
    pause_with_undelivered_frame();
    virtio_reset(d.device);
    ck_assert(!backend.paused && !backend.wanted);
    virtio_resume(d.device);
    memset(driver_ram(&d, 0x10000), 0, 0x20000);
    start(0);
    backend.size = 72;
    post(0, 1600);
    driver_kick_if_asked(&d, RX);
    expect(0, 72);
    expect_bytes(place(0), 72, 1, 0);
}
END_TEST

START_TEST(broken_while_a_frame_is_undelivered)
{
    pause_with_undelivered_frame();
    virtio_resume(d.device);
    driver_publish(&d, RX, 999);
    driver_kick(&d, RX);
    ck_assert(driver_broken(&d));
    pause_nic();
    virtio_resume(d.device);
    turn(3);
    ck_assert(!backend.wanted);
}
END_TEST

static void send_bytes(uint32_t size)
{
    driver_describe(&d, TX, 0, DRIVER_BUFFERS, size, 0, 0);
    driver_publish(&d, TX, 0);
    driver_kick_if_asked(&d, TX);
    ck_assert(driver_wait(&d, TX, NULL, NULL));
}

/* Frame sizes with header, and whether such a frame is sent. */
static const struct {
    uint32_t size;
    bool goes;
} sizes[] = {
    { 0, false },
    { 1, false },
    { 11, false },
    { 12, false }, /* header only */
    { 25, false }, /* less than an Ethernet header */
    { 26, true },
    { 72, true },
    { 12 + NET_FRAME_MAX, true },
    { 13 + NET_FRAME_MAX, false },
    { DRIVER_RAM - DRIVER_BUFFERS, false },
};

START_TEST(frame_sizes)
{
    start(0);
    send_bytes(sizes[_i].size);
    ck_assert_uint_eq(backend.sent, sizes[_i].goes);
    if (sizes[_i].goes)
        ck_assert_uint_eq(backend.sent_size, sizes[_i].size - 12);
    ck_assert(!driver_broken(&d));
}
END_TEST

START_TEST(empty_transmit_chain)
{
    start(0);
    driver_describe(&d, TX, 0, DRIVER_BUFFERS, 100, DRIVER_WRITE, 0);
    driver_publish(&d, TX, 0);
    driver_kick_if_asked(&d, TX);
    ck_assert(driver_wait(&d, TX, NULL, NULL));
    ck_assert_uint_eq(backend.sent, 0);
}
END_TEST

START_TEST(header_split_over_descriptors)
{
    uint8_t *frame = driver_ram(&d, DRIVER_BUFFERS);

    start(CSUM);
    frame[0] = VIRTIO_NET_HDR_F_NEEDS_CSUM;
    frame[6] = 14;
    frame[8] = 6;
    for (unsigned i = 0; i < 50; i++) {
        frame[12 + i] = (uint8_t)i;
        driver_describe(&d, TX, i, DRIVER_BUFFERS + i, 1, i < 49 ? DRIVER_NEXT : 0,
                        (uint16_t)(i + 1));
    }
    driver_publish(&d, TX, 0);
    driver_kick_if_asked(&d, TX);
    ck_assert_uint_eq(backend.sent, 1);
    ck_assert_uint_eq(backend.sent_size, 38);
    ck_assert_uint_eq(le16_load(&backend.header.csum_start), 14);
    ck_assert_mem_eq(backend.sent_bytes, frame + 12, 38);
}
END_TEST

#define HEADER(flags, type, hdr_len, gso_size, start, offset)          \
    {                                                                  \
        flags, type, { hdr_len }, { gso_size }, { start }, { offset }, \
        {                                                              \
            0xffff                                                     \
        }                                                              \
    }

/* Headers of a frame of 100 bytes, and whether they are accepted. */
static const struct {
    uint64_t features;
    struct net_header header;
    bool goes;
} headers[] = {
    { CSUM, HEADER(1, 0, 0, 0, 34, 16), true },
    { CSUM, HEADER(1, 0, 0, 0, 98, 0), true },
    { CSUM, HEADER(1, 0, 0, 0, 99, 0), false }, /* the checksum crosses the frame's end */
    { CSUM, HEADER(1, 0, 0, 0, 34, 65), false },
    { CSUM, HEADER(1, 0, 0, 0, 101, 0), false },
    { CSUM, HEADER(1, 0, 0, 0, 0xffff, 0xffff), false },
    { CSUM, HEADER(1, 0, 0, 0, 2, 0xfffe), false },
    { CSUM, HEADER(0, 0, 0xffff, 0xffff, 0xffff, 0xffff), true }, /* unused fields */
    { CSUM | TSO4, HEADER(1, 1, 54, 1000, 34, 16), true },
    { CSUM | TSO4, HEADER(1, 1, 100, 1, 34, 16), true },
    { CSUM | TSO4, HEADER(1, 1, 101, 1000, 34, 16), false }, /* hdr_len beyond the frame */
    { CSUM | TSO4, HEADER(1, 1, 54, 0, 34, 16), false },     /* empty segments */
    { CSUM | TSO4, HEADER(0, 1, 54, 1000, 34, 16), false },  /* segments without checksum */
    { CSUM | TSO4, HEADER(1, 1, 54, 1000, 34, 65), false },
    { CSUM | TSO4, HEADER(1, 0x81, 54, 1000, 34, 16), false }, /* ECN was not negotiated */
    { CSUM | TSO4, HEADER(1, 4, 54, 1000, 34, 16), false },
    { CSUM | TSO4, HEADER(1, 3, 54, 1000, 34, 16), false },
    { CSUM | TSO4, HEADER(1, 0x80, 54, 1000, 34, 16), false },
    { CSUM | TSO4, HEADER(1, 0x7f, 54, 1000, 34, 16), false },
    { CSUM, HEADER(1, 1, 54, 1000, 34, 16), false },
    { 0, HEADER(1, 1, 0xffff, 0, 0xffff, 0xffff), true }, /* no offloads: ignored and cleared */
};

START_TEST(header_beyond_the_frame)
{
    const struct net_header none = { 0 };

    start(headers[_i].features);
    memcpy(driver_ram(&d, DRIVER_BUFFERS), &headers[_i].header, NET_HEADER_SIZE);
    send_bytes(112);
    ck_assert_uint_eq(backend.sent, headers[_i].goes);
    ck_assert_uint_eq(le16_load(&backend.header.num_buffers), 0);
    if (!headers[_i].features)
        ck_assert_mem_eq(&backend.header, &none, sizeof(none));
    if (!backend.header.gso_type)
        ck_assert_uint_eq(le16_load(&backend.header.hdr_len), 0);
}
END_TEST

START_TEST(blocked_frame_is_sent_once)
{
    start(_i ? EVENT_IDX : 0);
    backend.error = -EAGAIN;
    for (unsigned i = 0; i < 3; i++) {
        memset(driver_ram(&d, place(i)), (int)i, 100);
        driver_describe(&d, TX, i, place(i), 40, 0, 0);
        driver_publish(&d, TX, (uint16_t)i);
    }
    driver_kick_if_asked(&d, TX);
    expect_nothing(TX);

    backend.error = 0;
    backend.net.client.writable(backend.net.client.owner);
    for (uint32_t i = 0, head; i < 3; i++) {
        ck_assert(driver_wait(&d, TX, &head, NULL));
        ck_assert_uint_eq(head, i);
    }
    ck_assert_uint_eq(backend.sent, 3);
    ck_assert_uint_eq(backend.sent_bytes[0], 2);
}
END_TEST

START_TEST(a_blocked_frame_survives_a_pause)
{
    start(_i ? EVENT_IDX : 0);
    backend.error = -EAGAIN;
    driver_describe(&d, TX, 0, place(0), 40, 0, 0);
    driver_publish(&d, TX, 0);
    driver_kick_if_asked(&d, TX);
    pause_nic();
    backend.error = 0;
    expect_nothing(TX);
    virtio_resume(d.device);
    ck_assert(driver_wait(&d, TX, NULL, NULL));
    ck_assert_uint_eq(backend.sent, 1);
}
END_TEST

START_TEST(a_blocked_frame_is_dropped_with_the_link)
{
    start(0);
    backend.error = -EAGAIN;
    driver_describe(&d, TX, 0, place(0), 40, 0, 0);
    driver_publish(&d, TX, 0);
    driver_kick_if_asked(&d, TX);
    expect_nothing(TX);
    backend.error = -ENETDOWN;
    backend.net.client.lost(backend.net.client.owner);
    ck_assert(driver_wait(&d, TX, NULL, NULL));
}
END_TEST

START_TEST(failed_frame_is_dropped)
{
    start(0);
    backend.error = -EIO;
    send_bytes(100);
    backend.error = 0;
    send_bytes(100);
    ck_assert_uint_eq(backend.sent, 1);
}
END_TEST

START_TEST(one_interrupt_for_a_batch)
{
    start(0);
    for (unsigned i = 0; i < 20; i++) {
        driver_describe(&d, TX, i, DRIVER_BUFFERS, 100, 0, 0);
        driver_publish(&d, TX, (uint16_t)i);
        post(i, 1600);
    }
    backend.left = 20;
    driver_kick_if_asked(&d, TX);
    ck_assert_uint_eq(backend.sent, 20);
    ck_assert_uint_eq(d.interrupts, 1);
    driver_kick_if_asked(&d, RX);
    ck_assert_uint_eq(backend.received, 20);
    ck_assert_uint_eq(d.interrupts, 2);
}
END_TEST

static void send_another(void)
{
    driver_publish(&d, TX, 0);
}

static void post_another(void)
{
    post(0, 1600);
}

/* A guest that never stops sending must not keep the loop. */
START_TEST(endless_transmit_yields_the_loop)
{
    start(0);
    driver_describe(&d, TX, 0, DRIVER_BUFFERS, 100, 0, 0);
    backend.hook = send_another;
    send_another();
    driver_kick(&d, TX);
    ck_assert_uint_ge(backend.sent, 2);
    ck_assert_uint_le(backend.sent, 100);
    turn(1); /* continues without another kick */
    ck_assert_uint_gt(backend.sent, 100);
    ck_assert(!driver_broken(&d));
}
END_TEST

START_TEST(endless_receive_yields_the_loop)
{
    start(_i ? MERGEABLE : 0);
    backend.hook = post_another;
    backend.left = 10000;
    post_another();
    driver_kick(&d, RX);
    ck_assert_uint_ge(backend.received, 2);
    ck_assert_uint_le(backend.received, 200);
    turn(2);
    ck_assert_uint_gt(backend.received, 200);
    ck_assert(!driver_broken(&d));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("net");
    TCase *receive = tcase_create("receive"), *transmit = tcase_create("transmit");

    tcase_add_checked_fixture(receive, setup, teardown);
    tcase_add_test(receive, configuration_space_and_features);
    tcase_add_test(receive, frame_larger_than_the_buffer);
    tcase_add_test(receive, frame_over_several_buffers);
    tcase_add_loop_test(receive, frame_waits_for_the_last_buffer, 0, 2);
    tcase_add_test(receive, jumbo_frame_waits_for_the_last_buffer);
    tcase_add_test(receive, largest_frame_in_small_buffers);
    tcase_add_test(receive, frames_of_changing_sizes);
    tcase_add_test(receive, frame_larger_than_all_buffers);
    tcase_add_test(receive, buffers_smaller_than_the_header);
    tcase_add_loop_test(receive, buffer_of_many_pieces, 0, 2);
    tcase_add_test(receive, empty_receive_chain);
    tcase_add_loop_test(receive, receive_without_buffers, 0, 2);
    tcase_add_loop_test(receive, full_queue_loses_no_notification, 0, 4);
    tcase_add_test(receive, reset_with_a_frame_waiting);
    tcase_add_test(receive, broken_receive_queue);
    tcase_add_loop_test(receive, a_paused_nic_receives_nothing, 0, 2);
    tcase_add_test(receive, an_undelivered_frame_survives_pauses);
    tcase_add_test(receive, an_undelivered_frame_is_part_of_the_state);
    tcase_add_loop_test(receive, a_new_nic_with_the_state_receives_and_sends, 0, 2);
    tcase_add_test(receive, state_of_another_mac_address_is_refused);
    tcase_add_test(receive, paused_after_a_deferred_frame_was_delivered);
    tcase_add_test(receive, reset_while_paused);
    tcase_add_test(receive, broken_while_a_frame_is_undelivered);
    tcase_add_loop_test(receive, endless_receive_yields_the_loop, 0, 2);
    suite_add_tcase(suite, receive);

    tcase_add_checked_fixture(transmit, setup, teardown);
    tcase_add_loop_test(transmit, frame_sizes, 0, ARRAY_SIZE(sizes));
    tcase_add_test(transmit, empty_transmit_chain);
    tcase_add_test(transmit, header_split_over_descriptors);
    tcase_add_loop_test(transmit, header_beyond_the_frame, 0, ARRAY_SIZE(headers));
    tcase_add_loop_test(transmit, blocked_frame_is_sent_once, 0, 2);
    tcase_add_loop_test(transmit, a_blocked_frame_survives_a_pause, 0, 2);
    tcase_add_test(transmit, a_blocked_frame_is_dropped_with_the_link);
    tcase_add_test(transmit, failed_frame_is_dropped);
    tcase_add_test(transmit, one_interrupt_for_a_batch);
    tcase_add_test(transmit, endless_transmit_yields_the_loop);
    suite_add_tcase(suite, transmit);
    return unit_run(suite);
}
