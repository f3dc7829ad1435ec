/* SPDX-License-Identifier: MIT */
#include "devices/virtio/console.h"

#include <linux/virtio_console.h>
#include <linux/virtio_ring.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "tests/unit/driver.h"
#include "tests/unit/host.h"
#include "tests/unit/saved.h"
#include "tests/unit/unit.h"
#include "vmm/core/base.h"
#include "vmm/core/clock.h"
#include "vmm/core/endian.h"
#include "vmm/core/log.h"

/* A console with several ports, with a driver like Linux's, or a hostile one. */

#define MULTIPORT BIT(VIRTIO_CONSOLE_F_MULTIPORT)
#define SIZE      BIT(VIRTIO_CONSOLE_F_SIZE)
#define PORTS     3

enum { CONTROL_RECEIVE = 2, CONTROL_TRANSMIT = 3 };

/* Guest addresses of control messages. Each one from the host has a buffer of its own. */
#define HEARD  (DRIVER_BUFFERS + 0x1000)
#define SAID   (DRIVER_BUFFERS + 0x8000)
#define BYTES  (DRIVER_BUFFERS + 0x10000)
#define BUFFER 64 /* bytes */

static struct driver driver;
static struct virtio_console_port ports[PORTS];
static unsigned port_count;
static uint16_t control_buffers_posted; /* posted so far */

static unsigned receive_of(unsigned port)
{
    return port ? 2 * port + 2 : 0;
}

static unsigned transmit_of(unsigned port)
{
    return receive_of(port) + 1;
}

static void init(void)
{
    log_set_level(LOG_LEVEL_ERROR);
    signal(SIGPIPE, SIG_IGN);
    driver_init(&driver);
    port_count = control_buffers_posted = 0;
}

/* Adds a port between two descriptors. */
static void add(const char *name, int input, int output)
{
    const struct terminal_config config = { .input = input, .output = output, .stream = true };

    ports[port_count] = (struct virtio_console_port){ .name = name };
    ck_assert_int_eq(terminal_create(&ports[port_count++].terminal, &config, driver.loop), 0);
}

static struct virtio_device *create(void)
{
    struct virtio_device *device;

    ck_assert_int_eq(
        virtio_console_create(&device, "console", ports, port_count, driver.mem, driver.loop), 0);
    return device;
}

static void request(unsigned queue, uint16_t index, uint64_t addr, uint32_t len, uint16_t flags)
{
    driver_describe(&driver, queue, index, addr, len, flags, 0);
    driver_publish(&driver, queue, index);
    driver_kick(&driver, queue);
}

static unsigned used_now(unsigned queue)
{
    const le16 *idx = driver_ram(&driver, 0x10000 + queue * 0x10000ull + 0x8002);

    return (uint16_t)(le16_load_acquire(idx) - driver.used_seen[queue]);
}

static void give_control_buffers(unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        uint16_t index = control_buffers_posted++ % DRIVER_QUEUE_SIZE;

        request(CONTROL_RECEIVE, index, HEARD + index * BUFFER, BUFFER, DRIVER_WRITE);
    }
}

static void send_control(uint32_t port, uint16_t event, uint16_t value)
{
    uint8_t *message = driver_ram(&driver, SAID);

    le32_store((le32 *)message, port);
    le16_store((le16 *)(message + 4), event);
    le16_store((le16 *)(message + 6), value);
    request(CONTROL_TRANSMIT, 0, SAID, 8, 0);
    ck_assert(driver_wait(&driver, CONTROL_TRANSMIT, NULL, NULL));
}

/* The next control message is this one, followed by `tail`. */
static void check_control(uint32_t port, uint16_t event, uint16_t value, const char *tail,
                          uint32_t tail_size)
{
    uint32_t head, written;
    const uint8_t *message;

    ck_assert(driver_wait(&driver, CONTROL_RECEIVE, &head, &written));
    message = driver_ram(&driver, HEARD + head * BUFFER);
    ck_assert_uint_eq(written, 8 + tail_size);
    ck_assert_uint_eq(le32_load((const le32 *)message), port);
    ck_assert_uint_eq(le16_load((const le16 *)(message + 4)), event);
    ck_assert_uint_eq(le16_load((const le16 *)(message + 6)), value);
    ck_assert_mem_eq(message + 8, tail, tail_size);
}

static void check_open(uint32_t port, bool open)
{
    check_control(port, VIRTIO_CONSOLE_PORT_OPEN, open, "", 0);
}

/* There are no more control messages. */
static void check_no_control(void)
{
    host_turns(driver.loop);
    ck_assert_uint_eq(used_now(CONTROL_RECEIVE), 0);
}

/* Sets up and opens all ports, as Linux does. */
static void set_up_ports(void)
{
    send_control(UINT32_MAX, VIRTIO_CONSOLE_DEVICE_READY, 1);
    for (unsigned i = 0; i < port_count; i++)
        check_control(i, VIRTIO_CONSOLE_PORT_ADD, 1, "", 0);
    for (unsigned i = 0; i < port_count; i++) {
        send_control(i, VIRTIO_CONSOLE_PORT_READY, 1);
        if (ports[i].console)
            check_control(i, VIRTIO_CONSOLE_CONSOLE_PORT, 1, "", 0);
        check_open(i, true);
        if (ports[i].name)
            check_control(i, VIRTIO_CONSOLE_PORT_NAME, 1, ports[i].name,
                          (uint32_t)strlen(ports[i].name));
        send_control(i, VIRTIO_CONSOLE_PORT_OPEN, 1);
    }
}

static void start(void)
{
    ck_assert(driver_start(&driver, create(), MULTIPORT));
    give_control_buffers(40);
    set_up_ports();
}

static void restart(void)
{
    virtio_set_status(driver.device, 0);
    memset(driver_ram(&driver, 0x10000), 0, DRIVER_BUFFERS - 0x10000); /* clears the rings */
    control_buffers_posted = 0;
    ck_assert(driver_start(&driver, driver.device, MULTIPORT));
    give_control_buffers(40);
}

static void finish(void)
{
    virtio_destroy(driver.device);
    for (unsigned i = 0; i < port_count; i++)
        terminal_destroy(ports[i].terminal, 1000);
    loop_destroy(driver.loop);
    guest_memory_destroy(driver.mem);
}

static void transmit(unsigned port, uint16_t index, const char *text)
{
    memcpy(driver_ram(&driver, BYTES + index * BUFFER), text, strlen(text));
    request(transmit_of(port), index, BYTES + index * BUFFER, (uint32_t)strlen(text), 0);
}

/* Reads until the end or `count` bytes, running the loop meanwhile. */
static size_t drain(int fd, char *bytes, size_t count)
{
    double end = host_seconds() + HOST_TIMEOUT_S;
    size_t seen = 0;

    while (seen < count && host_seconds() < end) {
        ssize_t got;

        loop_turn(driver.loop, 1);
        if (poll(&(struct pollfd){ .fd = fd, .events = POLLIN }, 1, 0) == 0)
            continue;
        got = read(fd, bytes + seen, count - seen);
        if (got <= 0)
            break;
        seen += (size_t)got;
    }
    return seen;
}

static void check_output(int fd, const char *text)
{
    char bytes[100] = "";

    ck_assert_uint_eq(drain(fd, bytes, strlen(text)), strlen(text));
    ck_assert_str_eq(bytes, text);
}

/* The output has ended, without another byte. */
static void check_end(int fd)
{
    char byte;

    ck_assert(poll(&(struct pollfd){ .fd = fd, .events = POLLIN }, 1, HOST_TIMEOUT_S * 1000) > 0);
    ck_assert_int_eq(read(fd, &byte, 1), 0);
}

/* Announcements. */

START_TEST(ports_announce_themselves_to_each_driver)
{
    uint8_t config[VIRTIO_MAX_CONFIG];

    init();
    add("one", -1, -1);
    add("two", -1, -1);
    ports[0].console = true;
    start();
    virtio_read_config(driver.device, config);
    ck_assert_mem_eq(config, "\0\0\0\0\2\0\0\0\0\0\0\0", 12);
    ck_assert_uint_eq(driver.device->queue_count, 6);
    check_no_control();

    restart();
    set_up_ports();
    check_no_control();
    finish();
}
END_TEST

START_TEST(one_port_with_a_name_has_control_too)
{
    init();
    add("one", -1, -1);
    start();
    check_no_control();
    finish();
}
END_TEST

START_TEST(a_driver_without_multiport_has_port_0)
{
    struct host_pipe in = host_pipe(), out = host_pipe();

    init();
    add(NULL, in.reader, out.writer);
    add("one", -1, -1);
    ports[0].console = true;
    ck_assert(driver_start(&driver, create(), 0));
    transmit(0, 0, "out");
    check_output(out.reader, "out");
    ck_assert_int_eq(write(in.writer, "in", 2), 2);
    request(receive_of(0), 0, BYTES, 10, DRIVER_WRITE);
    ck_assert(driver_wait(&driver, receive_of(0), NULL, NULL));

    /* The control queues and the other ports do nothing. */
    request(CONTROL_RECEIVE, 0, HEARD, BUFFER, DRIVER_WRITE);
    memset(driver_ram(&driver, SAID), 0, 8);
    request(CONTROL_TRANSMIT, 0, SAID, 8, 0);
    transmit(1, 1, "lost");
    host_turns(driver.loop);
    ck_assert_uint_eq(used_now(CONTROL_RECEIVE) + used_now(CONTROL_TRANSMIT), 0);
    ck_assert_uint_eq(used_now(transmit_of(1)), 0);
    finish();
}
END_TEST

START_TEST(control_messages_wait_for_buffers)
{
    init();
    add("one", -1, -1);
    add("two", -1, -1);
    ck_assert(driver_start(&driver, create(), MULTIPORT));
    for (unsigned i = 0; i < 100; i++) { /* repeated requests are merged */
        send_control(7, VIRTIO_CONSOLE_DEVICE_READY, 1);
        send_control(0, VIRTIO_CONSOLE_PORT_READY, 1);
        send_control(1, VIRTIO_CONSOLE_PORT_READY, i % 2);
    }
    for (unsigned i = 0; i < 6; i++)
        give_control_buffers(1);
    check_open(0, true);
    check_control(0, VIRTIO_CONSOLE_PORT_NAME, 1, "one", 3);
    check_open(1, true);
    check_control(1, VIRTIO_CONSOLE_PORT_NAME, 1, "two", 3);
    check_no_control();
    finish();
}
END_TEST

START_TEST(size_of_a_console)
{
    const struct winsize sizes[] = { { .ws_col = 80, .ws_row = 25 },
                                     { .ws_col = 300, .ws_row = 1 } };
    struct host_pty pty = host_pty();

    init();
    ck_assert_int_eq(ioctl(pty.slave, TIOCSWINSZ, &sizes[0]), 0);
    add(NULL, -1, pty.slave);
    ports[0].console = true;
    add("one", -1, -1);
    ck_assert(driver_start(&driver, create(), MULTIPORT | SIZE));
    terminal_window_changed(ports[0].terminal); /* no driver yet */
    give_control_buffers(20);
    check_no_control();

    send_control(0, VIRTIO_CONSOLE_PORT_READY, 1);
    check_control(0, VIRTIO_CONSOLE_CONSOLE_PORT, 1, "", 0);
    check_control(0, VIRTIO_CONSOLE_RESIZE, 1, "\x50\0\x19\0", 4);
    check_open(0, true);
    ck_assert_int_eq(ioctl(pty.slave, TIOCSWINSZ, &sizes[1]), 0);
    terminal_window_changed(ports[0].terminal);
    terminal_window_changed(ports[1].terminal);
    check_control(0, VIRTIO_CONSOLE_RESIZE, 1, "\x2c\x01\x01\0", 4);
    check_no_control();
    ck_assert_uint_eq(driver.config_changes, 0);
    finish();
}
END_TEST

/* Hostile messages: the device ignores them or sets NEEDS_RESET. */

START_TEST(meaningless_control_messages_are_ignored)
{
    init();
    add("one", -1, -1);
    add("two", -1, -1);
    ck_assert(driver_start(&driver, create(), MULTIPORT));
    give_control_buffers(40);
    for (uint32_t event = 0; event < 20; event++) {
        send_control(2, (uint16_t)event, 0);
        send_control(UINT32_MAX, (uint16_t)event, 0);
        send_control(0x10000, (uint16_t)(event + 0xff00), 1);
    }
    send_control(0, VIRTIO_CONSOLE_DEVICE_READY, 0);
    send_control(0, VIRTIO_CONSOLE_PORT_OPEN, 0);
    check_no_control();
    set_up_ports();
    ck_assert(!driver_broken(&driver));
    finish();
}
END_TEST

START_TEST(control_message_too_short)
{
    init();
    add("one", -1, -1);
    start();
    request(CONTROL_TRANSMIT, 0, SAID, (uint32_t)_i, 0);
    ck_assert(driver_broken(&driver));
    restart();
    set_up_ports();
    finish();
}
END_TEST

START_TEST(control_message_longer_than_needed_and_in_pieces)
{
    init();
    add("one", -1, -1);
    ck_assert(driver_start(&driver, create(), MULTIPORT));
    give_control_buffers(1);
    memset(driver_ram(&driver, SAID), 0, 1000);
    memcpy(driver_ram(&driver, SAID), "\1\0\0\0\0\0\1\0", 8);
    for (uint16_t i = 0; i < 10; i++)
        driver_describe(&driver, CONTROL_TRANSMIT, i, SAID + i, i < 9 ? 1 : 900,
                        i < 9 ? DRIVER_NEXT : 0, i + 1);
    driver_publish(&driver, CONTROL_TRANSMIT, 0);
    driver_kick(&driver, CONTROL_TRANSMIT);
    check_control(0, VIRTIO_CONSOLE_PORT_ADD, 1, "", 0);
    finish();
}
END_TEST

START_TEST(control_buffer_too_small)
{
    static const uint32_t sizes[] = { 0, 7, 10 }; /* the name needs 11 */

    init();
    add("one", -1, -1);
    ck_assert(driver_start(&driver, create(), MULTIPORT));
    give_control_buffers(1);
    send_control(0, VIRTIO_CONSOLE_PORT_READY, 1);
    check_open(0, true);
    request(CONTROL_RECEIVE, 9, HEARD, sizes[_i], DRIVER_WRITE);
    ck_assert(driver_broken(&driver));
    restart();
    set_up_ports();
    finish();
}
END_TEST

START_TEST(queues_never_set_up)
{
    struct host_pipe in = host_pipe(), out = host_pipe();
    struct virtio_device *device;

    init();
    add("one", in.reader, out.writer);
    add("two", -1, -1);
    device = create();
    ck_assert(driver_start(&driver, device, MULTIPORT));
    virtio_set_status(device, 0);
    virtio_set_status(device, 3);
    virtio_set_features(device, 1ull << 32 | MULTIPORT);
    virtio_set_status(device, 11);
    virtio_set_status(device, 15);
    for (unsigned i = 0; i < device->queue_count; i++)
        driver_kick(&driver, i);
    ck_assert_int_eq(write(in.writer, "in", 2), 2);
    close(in.writer);
    terminal_window_changed(ports[0].terminal);
    ck_assert_uint_lt(host_turns(driver.loop), 20);
    ck_assert(!driver_broken(&driver));
    finish();
}
END_TEST

/* The ends of streams. */

START_TEST(input_waits_for_an_open_port)
{
    struct host_pipe in = host_pipe();
    uint32_t written;

    init();
    add("one", in.reader, -1);
    start();
    send_control(0, VIRTIO_CONSOLE_PORT_OPEN, 0);
    request(receive_of(0), 0, BYTES, 10, DRIVER_WRITE);
    ck_assert_int_eq(write(in.writer, "in", 2), 2);
    ck_assert_uint_lt(host_turns(driver.loop), 20);
    ck_assert_uint_eq(used_now(receive_of(0)), 0);
    send_control(0, VIRTIO_CONSOLE_PORT_OPEN, 1);
    ck_assert(driver_wait(&driver, receive_of(0), NULL, &written));
    ck_assert_uint_eq(written, 2);
    finish();
}
END_TEST

START_TEST(end_of_input_follows_the_last_byte)
{
    struct host_pipe in = host_pipe();
    uint32_t written;

    init();
    add("one", in.reader, -1);
    add("two", -1, -1);
    start();
    ck_assert_int_eq(write(in.writer, "the end", 7), 7);
    close(in.writer);
    check_no_control(); /* the bytes have no buffer yet */
    request(receive_of(0), 0, BYTES, 6, DRIVER_WRITE);
    ck_assert(driver_wait(&driver, receive_of(0), NULL, &written));
    ck_assert_uint_eq(written, 6);
    check_no_control();
    request(receive_of(0), 1, BYTES, 6, DRIVER_WRITE);
    ck_assert(driver_wait(&driver, receive_of(0), NULL, &written));
    ck_assert_uint_eq(written, 1);
    check_open(0, false);
    check_no_control();
    finish();
}
END_TEST

START_TEST(end_of_input_before_the_driver_starts)
{
    init();
    add("one", open("/dev/null", O_RDONLY), -1);
    ck_assert(driver_start(&driver, create(), MULTIPORT));
    give_control_buffers(20);
    host_turns(driver.loop);
    for (unsigned i = 0; i < 2; i++) {
        send_control(0, VIRTIO_CONSOLE_PORT_READY, 1);
        check_open(0, false);
        check_control(0, VIRTIO_CONSOLE_PORT_NAME, 1, "one", 3);
        send_control(0, VIRTIO_CONSOLE_PORT_OPEN, 1);
        check_no_control();
        restart();
    }
    finish();
}
END_TEST

START_TEST(output_ends_when_the_guest_closes)
{
    struct host_pipe out = host_pipe();

    init();
    add("one", -1, out.writer);
    add("two", -1, -1);
    start();
    close(out.writer); /* the terminal has the last duplicate */
    transmit(0, 0, "all ");
    transmit(0, 1, "of it");
    send_control(0, VIRTIO_CONSOLE_PORT_OPEN, 0);
    check_output(out.reader, "all of it");
    check_end(out.reader);
    send_control(0, VIRTIO_CONSOLE_PORT_OPEN, 1);
    transmit(0, 2, "dropped");
    for (unsigned i = 0; i < 3; i++)
        ck_assert(driver_wait(&driver, transmit_of(0), NULL, NULL));
    check_no_control();
    finish();
}
END_TEST

START_TEST(a_close_waits_for_a_slow_reader)
{
    struct host_pipe out = host_pipe();
    const size_t size = MIB;
    static char bytes[MIB + 1];

    init();
    add("one", -1, out.writer);
    start();
    close(out.writer);
    host_fill(driver_ram(&driver, BYTES), 0, size);
    request(transmit_of(0), 0, BYTES, (uint32_t)size, 0);
    send_control(0, VIRTIO_CONSOLE_PORT_OPEN, 0);
    ck_assert_uint_lt(host_turns(driver.loop), 50);
    ck_assert_uint_eq(drain(out.reader, bytes, size + 1), size);
    ck_assert_mem_eq(bytes, driver_ram(&driver, BYTES), size);
    finish();
}
END_TEST

START_TEST(an_idle_port_closes_at_once)
{
    struct host_pipe out = host_pipe();

    init();
    add("one", -1, out.writer);
    start();
    close(out.writer);
    send_control(0, VIRTIO_CONSOLE_PORT_OPEN, 0);
    check_end(out.reader);
    finish();
}
END_TEST

START_TEST(reset_in_the_middle_of_a_close)
{
    struct host_pipe out = host_pipe();
    static char bytes[MIB];
    size_t seen;

    init();
    add("one", -1, out.writer);
    start();
    close(out.writer);
    request(transmit_of(0), 0, BYTES, MIB, 0);
    send_control(0, VIRTIO_CONSOLE_PORT_OPEN, 0);
    host_turns(driver.loop);
    restart();
    set_up_ports();
    seen = drain(out.reader, bytes, sizeof(bytes)); /* the bytes that had room, then the end */
    ck_assert_uint_gt(seen, 64 * KIB);
    ck_assert_uint_lt(seen, 256 * KIB);
    check_end(out.reader);
    transmit(0, 1, "dropped");
    ck_assert(driver_wait(&driver, transmit_of(0), NULL, NULL));
    finish();
}
END_TEST

START_TEST(reset_sends_output_that_has_room)
{
    struct host_pipe out = host_pipe();

    init();
    add("one", -1, out.writer);
    start();
    memcpy(driver_ram(&driver, BYTES), "last words", 10);
    driver_describe(&driver, transmit_of(0), 0, BYTES, 10, 0, 0);
    driver_publish(&driver, transmit_of(0), 0);
    virtio_set_status(driver.device, 0); /* before the loop has seen them */
    check_output(out.reader, "last words");
    finish();
}
END_TEST

START_TEST(a_close_shuts_a_socket_down)
{
    int sockets[2];

    init();
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets), 0);
    add("one", sockets[0], sockets[0]); /* which stays open */
    start();
    transmit(0, 0, "bye");
    send_control(0, VIRTIO_CONSOLE_PORT_OPEN, 0);
    check_output(sockets[1], "bye");
    check_end(sockets[1]);
    finish();
}
END_TEST

START_TEST(reader_gone)
{
    struct host_pipe out = host_pipe();
    int log = memfd_create("log", MFD_CLOEXEC), before = dup(STDERR_FILENO);

    dup2(log, STDERR_FILENO);
    init();
    add("one", -1, out.writer);
    start();
    close(out.reader);
    transmit(0, 0, "hello?");
    check_open(0, false);
    ck_assert(driver_wait(&driver, transmit_of(0), NULL, NULL));
    transmit(0, 1, "dropped");
    ck_assert(driver_wait(&driver, transmit_of(0), NULL, NULL));
    check_no_control();
    finish();
    dup2(before, STDERR_FILENO);
    ck_assert_int_eq(lseek(log, 0, SEEK_END), 0); /* no error */
}
END_TEST

START_TEST(open_and_close_without_end)
{
    struct host_pipe in = host_pipe(), out = host_pipe();
    uint8_t *message;

    init();
    add("one", in.reader, out.writer);
    start();
    for (unsigned round = 0; round < 50; round++) {
        for (uint16_t i = 0; i < DRIVER_QUEUE_SIZE; i++) {
            message = driver_ram(&driver, SAID + 8u * i);
            memcpy(message, i % 2 ? "\0\0\0\0\6\0\1\0" : "\0\0\0\0\6\0\0\0", 8);
            driver_describe(&driver, CONTROL_TRANSMIT, i, SAID + 8u * i, 8, 0, 0);
            driver_publish(&driver, CONTROL_TRANSMIT, i);
        }
        driver_kick(&driver, CONTROL_TRANSMIT);
        ck_assert_uint_eq(used_now(CONTROL_TRANSMIT), 32); /* bounded for each round */
        for (unsigned i = 0; i < DRIVER_QUEUE_SIZE; i++)
            ck_assert(driver_wait(&driver, CONTROL_TRANSMIT, NULL, NULL));
    }
    check_no_control();
    finish();
}
END_TEST

/* Order. */

/* Port 0 has a slow reader. The ordered port 1 says that port 0 is done. */
static void start_ordered(int output, int ordered)
{
    init();
    add("data", -1, output);
    add("ordered", -1, ordered);
    ports[1].ordered = true;
    start();
}

/* `bytes` has the first `seen` bytes of the output; "done" is not to come before all `size`. */
static void check_order(int out, int ordered, char *bytes, size_t seen, size_t size)
{
    while (seen < size) { /* the pipe holds 64 KiB */
        if (size - seen > 64 * KIB)
            ck_assert_int_eq(poll(&(struct pollfd){ .fd = ordered, .events = POLLIN }, 1, 0), 0);
        seen += drain(out, bytes + seen, size - seen < 5000 ? size - seen : 5000);
    }
    ck_assert_mem_eq(bytes, driver_ram(&driver, BYTES + BUFFER), size);
    check_output(ordered, "done");
}

START_TEST(an_ordered_port_waits_for_the_others)
{
    struct host_pipe out = host_pipe(), ordered = host_pipe();
    const size_t size = MIB;
    static char bytes[MIB];

    start_ordered(out.writer, ordered.writer);
    host_fill(driver_ram(&driver, BYTES + BUFFER), 0, size);
    transmit(1, 0, "begin");
    check_output(ordered.reader, "begin");
    request(transmit_of(0), 0, BYTES + BUFFER, (uint32_t)size, 0);
    transmit(1, 0, "done");
    ck_assert_uint_lt(host_turns(driver.loop), 50);
    check_order(out.reader, ordered.reader, bytes, 0, size);
    finish();
}
END_TEST

START_TEST(an_ordered_port_does_not_starve)
{
    struct host_pipe out = host_pipe(), ordered = host_pipe();
    static char bytes[64 * KIB];
    double end = host_seconds() + HOST_TIMEOUT_S;

    start_ordered(out.writer, ordered.writer);
    for (uint16_t i = 0; i < 4; i++)
        request(transmit_of(0), i, BYTES, 64 * KIB, 0);
    transmit(1, 0, "done");
    /* The other port's queue never becomes empty. */
    for (uint16_t i = 0; !used_now(transmit_of(1)) && host_seconds() < end;) {
        ck_assert_uint_gt(drain(out.reader, bytes, 4 * KIB), 0);
        for (; used_now(transmit_of(0)); driver.used_seen[transmit_of(0)]++, i++)
            request(transmit_of(0), i % 4, BYTES, 64 * KIB, 0);
    }
    check_output(ordered.reader, "done");
    finish();
}
END_TEST

START_TEST(an_ordered_port_does_not_wait_for_a_broken_or_unread_port)
{
    struct host_pipe out = host_pipe(), ordered = host_pipe();

    start_ordered(out.writer, ordered.writer);
    for (uint16_t i = 0; i < 4; i++)
        request(transmit_of(0), i, BYTES, 64 * KIB, 0);
    transmit(1, 0, "done");
    host_turns(driver.loop);
    ck_assert_uint_eq(used_now(transmit_of(1)), 0);
    if (_i == 0)
        close(out.reader);
    else if (_i == 1)
        terminal_abandon(ports[0].terminal);
    else
        request(transmit_of(0), 5, DRIVER_RAM, 1, 0); /* breaks the queue, then there is room */
    if (_i == 2)
        drain(out.reader, (char[256 * KIB]){ 0 }, 256 * KIB);
    check_output(ordered.reader, "done");
    finish();
}
END_TEST

/* Pause, save and load. */

static void pause_console(void)
{
    for (unsigned i = 0; i < port_count; i++)
        terminal_pause(ports[i].terminal);
    ck_assert_int_eq(virtio_pause(driver.device, clock_now_ns() + 1000000000), 0);
}

static void resume_console(void)
{
    virtio_resume(driver.device);
    for (unsigned i = 0; i < port_count; i++)
        terminal_resume(ports[i].terminal);
}

/* A port's descriptors, -1 for none. */
struct ends {
    int input, output;
};

/* Reads the output that a paused console's terminal still writes. */
static size_t read_rest(int fd, char *bytes, size_t count)
{
    size_t seen = 0;

    while (seen < count && poll(&(struct pollfd){ .fd = fd, .events = POLLIN }, 1, 100) > 0) {
        ssize_t got = read(fd, bytes + seen, count - seen);

        ck_assert_int_gt(got, 0);
        seen += (size_t)got;
    }
    return seen;
}

/* Replaces the paused console by another machine's, and loads its state. */
static void move_to_another_machine(const struct ends *ends)
{
    struct saved_virtio from = saved_virtio(driver.device), to;
    struct state saved;

    saved_take(&saved, &from.device);
    virtio_destroy(driver.device);
    for (unsigned i = 0; i < port_count; i++) {
        const struct terminal_config config = { .input = ends[i].input,
                                                .output = ends[i].output,
                                                .stream = true };

        terminal_destroy(ports[i].terminal, 0);
        ck_assert_int_eq(terminal_create(&ports[i].terminal, &config, driver.loop), 0);
    }
    driver_find(&driver, create());
    pause_console();
    to = saved_virtio(driver.device);
    saved_restore(&saved, &to.device);
}

START_TEST(due_control_messages_are_sent_after_a_pause)
{
    init();
    add("one", -1, -1);
    add("two", -1, -1);
    ports[0].console = true;
    ck_assert(driver_start(&driver, create(), MULTIPORT));
    send_control(1, VIRTIO_CONSOLE_PORT_READY, 1);
    send_control(0, VIRTIO_CONSOLE_DEVICE_READY, 1);
    pause_console();
    give_control_buffers(10);
    check_no_control();
    if (_i)
        move_to_another_machine((struct ends[]){ { -1, -1 }, { -1, -1 } });
    check_no_control();
    resume_console();
    check_control(0, VIRTIO_CONSOLE_PORT_ADD, 1, "", 0);
    check_control(1, VIRTIO_CONSOLE_PORT_ADD, 1, "", 0);
    check_open(1, true);
    check_control(1, VIRTIO_CONSOLE_PORT_NAME, 1, "two", 3);
    check_no_control();
    send_control(0, VIRTIO_CONSOLE_PORT_READY, 1);
    check_control(0, VIRTIO_CONSOLE_CONSOLE_PORT, 1, "", 0);
    finish();
}
END_TEST

START_TEST(ports_are_announced_again_in_another_machine)
{
    struct host_pipe in = host_pipe(), ended = host_pipe(), other = host_pipe();
    uint32_t written;

    init();
    add("one", in.reader, -1);
    add("two", ended.reader, -1);
    start();
    close(ended.writer);
    check_open(1, false);
    pause_console();
    move_to_another_machine(
        (struct ends[]){ { open("/dev/null", O_RDONLY), -1 }, { other.reader, -1 } });
    check_no_control();
    resume_console();
    check_open(0, true);
    check_open(1, true);
    check_open(0, false);
    check_no_control();
    ck_assert_int_eq(write(other.writer, "in", 2), 2);
    request(receive_of(1), 0, BYTES, 10, DRIVER_WRITE);
    ck_assert(driver_wait(&driver, receive_of(1), NULL, &written));
    ck_assert_uint_eq(written, 2);
    finish();
}
END_TEST

START_TEST(an_ordered_port_waits_across_a_pause)
{
    struct host_pipe out = host_pipe(), ordered = host_pipe(), other = host_pipe();
    const size_t size = MIB, half = size / 2;
    static char bytes[MIB];
    size_t seen;

    start_ordered(out.writer, ordered.writer);
    host_fill(driver_ram(&driver, BYTES + BUFFER), 0, size);
    request(transmit_of(0), 0, BYTES + BUFFER, (uint32_t)half, 0);
    request(transmit_of(0), 1, BYTES + BUFFER + half, (uint32_t)half, 0);
    transmit(1, 0, "done");
    request(transmit_of(0), 2, BYTES, 1, 0); /* later than the ordered request: not waited for */
    host_turns(driver.loop);
    pause_console();
    driver_kick(&driver, transmit_of(1));
    seen = read_rest(out.reader, bytes, size);
    ck_assert_uint_lt(seen, half);
    if (_i) {
        move_to_another_machine((struct ends[]){ { -1, other.writer }, { -1, ordered.writer } });
        out = other;
    }
    resume_console();
    check_order(out.reader, ordered.reader, bytes, seen, size);
    finish();
}
END_TEST

/* Closed with output left in the queue, and without. */
START_TEST(a_closed_port_ends_its_output_in_another_machine)
{
    struct host_pipe out = host_pipe(), other = host_pipe();
    const size_t size = _i ? MIB : 0;
    static char bytes[MIB + 1];
    size_t seen;

    init();
    add("one", -1, out.writer);
    start();
    close(out.writer);
    host_fill(driver_ram(&driver, BYTES), 0, size);
    request(transmit_of(0), 0, BYTES, (uint32_t)size, 0);
    send_control(0, VIRTIO_CONSOLE_PORT_OPEN, 0);
    host_turns(driver.loop);
    pause_console();
    seen = read_rest(out.reader, bytes, size);
    move_to_another_machine((struct ends[]){ { -1, other.writer } });
    close(other.writer);
    resume_console();
    seen += drain(other.reader, bytes + seen, size + 1 - seen);
    ck_assert_uint_eq(seen, size);
    ck_assert_mem_eq(bytes, driver_ram(&driver, BYTES), size);
    check_end(other.reader);
    finish();
}
END_TEST

/* Corrupts fields of the last port, in the order of the state. */
static const struct {
    const char *field;
    uint8_t value;
    const char *why;
} damaged[] = {
    { "due", 0x20, "due: 0x20 has unknown messages" },
    { "due", 0x10, "due: 0x10 has unknown messages" }, /* PORT_NAME of a port without a name */
    { "ready", 2, "ready: neither true nor false" },
    { "begun", 2, "begun: neither true nor false" },
};

START_TEST(damaged_state_is_refused)
{
    struct saved_virtio console;

    init();
    add("one", -1, -1);
    add(NULL, -1, -1);
    start();
    pause_console();
    console = saved_virtio(driver.device);
    saved_check_refused(&console.device, damaged[_i].field, damaged[_i].value, damaged[_i].why);
    finish();
}
END_TEST

START_TEST(a_state_with_endless_waiting_is_refused)
{
    char why[sizeof(((struct state *)0)->why)];
    struct saved_virtio console;
    struct state saved;

    init();
    add("one", -1, -1);
    start();
    pause_console();
    console = saved_virtio(driver.device);
    saved_take(&saved, &console.device);
    saved_field(&saved, "ahead")[1] = 2;
    ck_assert_int_eq(saved_load(&saved, &console.device, why), -EINVAL);
    ck_assert_ptr_nonnull(strstr(why, "ahead: 512 requests"));
    state_finish(&saved);
    finish();
}
END_TEST

static void *reset_device(void *arg)
{
    virtio_set_status(driver.device, 0);
    __atomic_store_n((bool *)arg, true, __ATOMIC_SEQ_CST);
    return NULL;
}

/* A guest that powers off resets its devices, on a vCPU thread. */
START_TEST(reset_waits_while_output_drains)
{
    struct host_pipe out = host_pipe();
    const size_t size = 300 * KIB;
    const bool reads = _i;
    static char bytes[300 * KIB];
    double begin = host_seconds();
    bool is_reset = false;
    pthread_t vcpu;
    size_t seen = 0;

    init();
    add("one", -1, out.writer);
    start();
    host_fill(driver_ram(&driver, BYTES), 0, size);
    request(transmit_of(0), 0, BYTES, (uint32_t)size, 0);
    pthread_create(&vcpu, NULL, reset_device, &is_reset);
    while (!__atomic_load_n(&is_reset, __ATOMIC_SEQ_CST)) {
        loop_turn(driver.loop, 10);
        if (reads && seen < size)
            seen += drain(out.reader, bytes + seen, 8 * KIB);
        usleep(reads ? 100000 : 0);
    }
    pthread_join(vcpu, NULL);
    ck_assert_double_gt(host_seconds() - begin, 2);
    ck_assert_double_lt(host_seconds() - begin, 2 * HOST_TIMEOUT_S);
    if (reads) {
        seen += drain(out.reader, bytes + seen, size - seen);
        ck_assert_mem_eq(bytes, driver_ram(&driver, BYTES), size);
    }
    finish();
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("console_ports");
    TCase *tcase = tcase_create("console_ports");

    tcase_set_timeout(tcase, 20);
    tcase_add_test(tcase, ports_announce_themselves_to_each_driver);
    tcase_add_test(tcase, one_port_with_a_name_has_control_too);
    tcase_add_test(tcase, a_driver_without_multiport_has_port_0);
    tcase_add_test(tcase, control_messages_wait_for_buffers);
    tcase_add_test(tcase, size_of_a_console);
    tcase_add_test(tcase, meaningless_control_messages_are_ignored);
    tcase_add_loop_test(tcase, control_message_too_short, 0, 8);
    tcase_add_test(tcase, control_message_longer_than_needed_and_in_pieces);
    tcase_add_loop_test(tcase, control_buffer_too_small, 0, 3);
    tcase_add_test(tcase, queues_never_set_up);
    tcase_add_test(tcase, input_waits_for_an_open_port);
    tcase_add_test(tcase, end_of_input_follows_the_last_byte);
    tcase_add_test(tcase, end_of_input_before_the_driver_starts);
    tcase_add_test(tcase, output_ends_when_the_guest_closes);
    tcase_add_test(tcase, a_close_waits_for_a_slow_reader);
    tcase_add_test(tcase, an_idle_port_closes_at_once);
    tcase_add_test(tcase, reset_in_the_middle_of_a_close);
    tcase_add_test(tcase, reset_sends_output_that_has_room);
    tcase_add_test(tcase, a_close_shuts_a_socket_down);
    tcase_add_test(tcase, reader_gone);
    tcase_add_test(tcase, open_and_close_without_end);
    tcase_add_test(tcase, an_ordered_port_waits_for_the_others);
    tcase_add_test(tcase, an_ordered_port_does_not_starve);
    tcase_add_loop_test(tcase, an_ordered_port_does_not_wait_for_a_broken_or_unread_port, 0, 3);
    tcase_add_loop_test(tcase, due_control_messages_are_sent_after_a_pause, 0, 2);
    tcase_add_test(tcase, ports_are_announced_again_in_another_machine);
    tcase_add_loop_test(tcase, an_ordered_port_waits_across_a_pause, 0, 2);
    tcase_add_loop_test(tcase, a_closed_port_ends_its_output_in_another_machine, 0, 2);
    tcase_add_loop_test(tcase, damaged_state_is_refused, 0, ARRAY_SIZE(damaged));
    tcase_add_test(tcase, a_state_with_endless_waiting_is_refused);
    tcase_add_loop_test(tcase, reset_waits_while_output_drains, 0, 2);
    suite_add_tcase(suite, tcase);
    return unit_run(suite);
}
