/* SPDX-License-Identifier: MIT */

/* The test is the other end of the user-mode network's socket: a minivmm-net, also a hostile one.
 */
#include "devices/net/user.h"

#include <errno.h>
#include <linux/virtio_net.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "devices/net/net.h"
#include "devices/virtio/net.h"
#include "tests/unit/driver.h"
#include "tests/unit/unit.h"
#include "vmm/core/base.h"
#include "vmm/core/clock.h"

#define RX       0
#define TX       1
#define BUFFERS  32u
#define RX_PLACE (DRIVER_BUFFERS + 0x10000u)
#define RX_STEP  2048u
#define FRAME    60u

static const uint8_t mac[6] = { 0x52, 0x54, 0, 1, 2, 3 };
static struct driver d;
static int peer;

static void post(unsigned index)
{
    driver_describe(&d, RX, index, RX_PLACE + index * RX_STEP, RX_STEP, DRIVER_WRITE, 0);
    driver_publish(&d, RX, (uint16_t)index);
}

static struct net *open_socket(bool optional)
{
    struct net *net;
    int pair[2];

    driver_init(&d);
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair), 0);
    peer = pair[1];
    ck_assert_int_eq(
        user_start(&net, &(struct user_options){ .fd = pair[0], .optional = optional }), 0);
    user_attach(net, d.loop);
    return net;
}

static void start_driver(struct net *net, uint64_t features)
{
    ck_assert_int_eq(virtio_net_create(&d.device, "net0", net, mac, d.mem, d.loop), 0);
    ck_assert(driver_start(&d, d.device, features));
    for (unsigned i = 0; i < BUFFERS; i++)
        post(i);
    driver_kick(&d, RX);
}

static void say(const void *bytes, size_t size)
{
    ck_assert_int_eq(send(peer, bytes, size, MSG_NOSIGNAL), size);
}

static void open_ready(void)
{
    struct net *net = open_socket(false);

    say("ready", 5);
    ck_assert_int_eq(user_wait(net), 0);
    start_driver(net, BIT(VIRTIO_NET_F_CSUM) | BIT(VIRTIO_NET_F_GUEST_CSUM));
}

static void finish(void)
{
    driver_finish(&d);
    close(peer);
}

static void turn(void)
{
    for (unsigned i = 0; i < 10; i++)
        loop_turn(d.loop, 0);
}

static bool link_is_up(void)
{
    uint8_t config[VIRTIO_MAX_CONFIG];

    virtio_read_config(d.device, config);
    return config[6] == VIRTIO_NET_S_LINK_UP;
}

/* Whatever is in the header and however long the packet. */
START_TEST(a_frame_has_a_header_of_ours)
{
    static uint8_t packet[NET_HEADER_SIZE + NET_FRAME_MAX + 1000];
    uint32_t head, written;

    memset(packet, 0xff, sizeof(packet));
    for (size_t size = 1; size < NET_HEADER_SIZE + 14; size++)
        say(packet, size);
    say(packet, sizeof(packet));
    say(packet, NET_HEADER_SIZE + FRAME);
    ck_assert(driver_wait(&d, RX, &head, &written));
    ck_assert_uint_eq(written, NET_HEADER_SIZE + FRAME);
    ck_assert_mem_eq(driver_ram(&d, RX_PLACE + head * RX_STEP),
                     ((uint8_t[NET_HEADER_SIZE]){ VIRTIO_NET_HDR_F_DATA_VALID, [10] = 1 }),
                     NET_HEADER_SIZE);
    ck_assert_mem_eq(driver_ram(&d, RX_PLACE + head * RX_STEP + NET_HEADER_SIZE),
                     packet + NET_HEADER_SIZE, FRAME);
    ck_assert(!driver_wait_ms(&d, RX, 0, NULL, NULL));
    ck_assert(link_is_up());
}
END_TEST

static void send_number(uint16_t number)
{
    uint8_t *frame = driver_ram(&d, DRIVER_BUFFERS + number % 64 * 1024);

    memset(frame, 0, NET_HEADER_SIZE + FRAME);
    memcpy(frame + NET_HEADER_SIZE, &number, sizeof(number));
    driver_describe(&d, TX, number % 64, DRIVER_BUFFERS + number % 64 * 1024, 1000, 0, 0);
    driver_publish(&d, TX, number % 64);
    driver_kick(&d, TX);
}

static uint16_t read_number(void)
{
    uint8_t packet[2000];
    uint16_t number = UINT16_MAX;
    ssize_t size = recv(peer, packet, sizeof(packet), MSG_DONTWAIT);

    if (size == 1)
        return packet[0];
    if (size == 1000)
        memcpy(&number, packet + NET_HEADER_SIZE, sizeof(number));
    return number;
}

/* Sends until the socket is full: the guest's next frames wait in its queue. */
static uint16_t fill(void)
{
    uint16_t count = 1000;

    for (;; count++) {
        send_number(count);
        if (!driver_wait_ms(&d, TX, 0, NULL, NULL))
            return count;
    }
}

START_TEST(a_full_socket_stops_the_guest)
{
    uint16_t last = fill();

    for (uint16_t i = 1000; i < last; i++)
        ck_assert_uint_eq(read_number(), i);
    ck_assert(driver_wait(&d, TX, NULL, NULL));
    ck_assert_uint_eq(read_number(), last);
}
END_TEST

START_TEST(a_pause_is_told)
{
    ck_assert_int_eq(virtio_pause(d.device, clock_now_ns() + 1000000000), 0);
    ck_assert_uint_eq(read_number(), USER_PAUSE);
    say("not while it is paused", 22);
    turn();
    virtio_resume(d.device);
    ck_assert_uint_eq(read_number(), USER_RESUME);
}
END_TEST

/* Told as soon as there is room, and not at all if the pause is over by then. */
START_TEST(a_pause_while_the_socket_is_full)
{
    uint16_t last = fill();

    ck_assert_int_eq(virtio_pause(d.device, clock_now_ns() + 1000000000), 0);
    turn();
    if (_i)
        virtio_resume(d.device);
    for (uint16_t i = 1000; i < last; i++)
        ck_assert_uint_eq(read_number(), i);
    turn();
    if (!_i) {
        ck_assert_uint_eq(read_number(), USER_PAUSE);
        virtio_resume(d.device);
        turn();
        ck_assert_uint_eq(read_number(), USER_RESUME);
    }
    ck_assert(driver_wait(&d, TX, NULL, NULL));
    ck_assert_uint_eq(read_number(), last);
}
END_TEST

/* At once, after a frame, with a frame that the guest has no buffer for, during a pause. */
START_TEST(a_closed_socket_is_a_link_that_is_down)
{
    static const uint8_t packet[NET_HEADER_SIZE + FRAME];

    for (unsigned i = 0; i < (_i == 2 ? 2 * BUFFERS : _i == 1); i++)
        say(packet, sizeof(packet));
    if (_i == 3)
        ck_assert_int_eq(virtio_pause(d.device, clock_now_ns() + 1000000000), 0);
    close(peer);
    peer = dup(0);
    turn();
    if (_i == 3) {
        ck_assert(link_is_up());
        virtio_resume(d.device);
        turn();
    }
    ck_assert(!link_is_up());
    ck_assert_uint_eq(d.config_changes, 1);
    send_number(1); /* is dropped */
    ck_assert(driver_wait(&d, TX, NULL, NULL));
    virtio_reset(d.device);
    ck_assert(!link_is_up());
}
END_TEST

/* What minivmm-net says, or nothing at all. */
START_TEST(a_network_that_does_not_start)
{
    static const char *const texts[] = { "no port is left", "", "ready?" };
    struct net *net = open_socket(_i % 2);

    if (*texts[_i / 2])
        say(texts[_i / 2], strlen(texts[_i / 2]));
    close(peer);
    if (_i % 2 == 0) {
        ck_assert_int_eq(user_wait(net), -EIO);
        net_close(net);
        loop_destroy(d.loop);
        guest_memory_destroy(d.mem);
        return;
    }
    ck_assert_int_eq(user_wait(net), 0); /* the machine runs without */
    start_driver(net, 0);
    turn();
    ck_assert(!link_is_up());
    driver_finish(&d);
}
END_TEST

/* The guest begins before the network is ready. */
START_TEST(frames_wait_for_the_network)
{
    struct net *net = open_socket(true);

    start_driver(net, 0);
    send_number(7);
    ck_assert(driver_wait(&d, TX, NULL, NULL));
    ck_assert_uint_eq(read_number(), 7);
    say("ready", 5);
    say((uint8_t[NET_HEADER_SIZE + FRAME]){ 0 }, NET_HEADER_SIZE + FRAME);
    ck_assert(driver_wait(&d, RX, NULL, NULL));
    finish();
}
END_TEST

START_TEST(other_descriptors_are_refused)
{
    int pair[2], fds[2] = { dup(0), -1 };
    struct net *net;

    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    fds[1] = pair[0];
    for (unsigned i = 0; i < ARRAY_SIZE(fds); i++)
        ck_assert_int_eq(user_start(&net, &(struct user_options){ .fd = fds[i] }), -EINVAL);
    ck_assert_int_eq(close(pair[0]), 0); /* still ours */
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("user_socket");
    TCase *ready = tcase_create("ready"), *start = tcase_create("start");

    tcase_add_checked_fixture(ready, open_ready, finish);
    tcase_add_test(ready, a_frame_has_a_header_of_ours);
    tcase_add_test(ready, a_full_socket_stops_the_guest);
    tcase_add_test(ready, a_pause_is_told);
    tcase_add_loop_test(ready, a_pause_while_the_socket_is_full, 0, 2);
    tcase_add_loop_test(ready, a_closed_socket_is_a_link_that_is_down, 0, 4);
    suite_add_tcase(suite, ready);

    tcase_add_loop_test(start, a_network_that_does_not_start, 0, 6);
    tcase_add_test(start, frames_wait_for_the_network);
    tcase_add_test(start, other_descriptors_are_refused);
    suite_add_tcase(suite, start);
    return unit_run(suite);
}
