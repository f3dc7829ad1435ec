/* SPDX-License-Identifier: MIT */
#include "devices/virtio/console.h"

#include <linux/virtio_console.h>
#include <linux/virtio_ring.h>
#include <pthread.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include "tests/unit/driver.h"
#include "tests/unit/host.h"
#include "tests/unit/saved.h"
#include "tests/unit/still_clock.h"
#include "tests/unit/unit.h"
#include "vmm/core/base.h"
#include "vmm/core/clock.h"
#include "vmm/core/endian.h"
#include "vmm/core/log.h"

enum { RECEIVE, TRANSMIT };

static struct driver driver;
static struct terminal *terminal;

/* Creates a console between two descriptors; the driver is not yet started. */
static struct virtio_device *create(int input, int output)
{
    struct virtio_device *device;

    log_set_level(LOG_LEVEL_ERROR);
    driver_init(&driver);
    terminal = host_terminal(driver.loop, input, output);
    ck_assert_int_eq(virtio_console_create(
                         &device, "console",
                         &(struct virtio_console_port){ .terminal = terminal, .console = true }, 1,
                         driver.mem, driver.loop),
                     0);
    return device;
}

static void start(int input, int output)
{
    ck_assert(driver_start(&driver, create(input, output), 0));
}

/* The loop is destroyed last, as the terminal is on it. */
static void finish(void)
{
    virtio_destroy(driver.device);
    terminal_destroy(terminal, 1000);
    loop_destroy(driver.loop);
    guest_memory_destroy(driver.mem);
}

/* Publishes a request of one buffer and kicks. */
static void request(unsigned queue, uint16_t index, uint64_t addr, uint32_t len, uint16_t flags)
{
    driver_describe(&driver, queue, index, addr, len, flags, 0);
    driver_publish(&driver, queue, index);
    driver_kick(&driver, queue);
}

static void check_used(unsigned queue, uint32_t head, uint32_t written)
{
    uint32_t used_head, used_written;

    ck_assert(driver_wait(&driver, queue, &used_head, &used_written));
    ck_assert_uint_eq(used_head, head);
    ck_assert_uint_eq(used_written, written);
}

/* How many used entries check_used() has not seen. Does not run the loop. */
static unsigned used_now(unsigned queue)
{
    const le16 *idx = driver_ram(&driver, 0x10000 + queue * 0x10000ull + 0x8002);

    return (uint16_t)(le16_load_acquire(idx) - driver.used_seen[queue]);
}

/* Transmit. */

START_TEST(output_split_over_many_descriptors)
{
    struct host_pipe out = host_pipe();

    start(-1, out.writer);
    host_fill(driver_ram(&driver, DRIVER_BUFFERS), 0, 1000);
    for (unsigned i = 0; i < 50; i++)
        driver_describe(&driver, TRANSMIT, i, DRIVER_BUFFERS + 20 * i, 20, i < 49 ? DRIVER_NEXT : 0,
                        (uint16_t)(i + 1));
    driver_publish(&driver, TRANSMIT, 0);
    driver_kick(&driver, TRANSMIT);
    check_used(TRANSMIT, 0, 0);
    ck_assert(host_expect(out.reader, 1000, false));
    finish();
}
END_TEST

START_TEST(a_slow_reader_gets_every_byte)
{
    struct host_pipe out = host_pipe();
    const uint32_t size = MIB;

    start(-1, out.writer);
    host_fill(driver_ram(&driver, DRIVER_BUFFERS), 0, size);
    request(TRANSMIT, 3, DRIVER_BUFFERS, size, 0);
    /* Pipe and buffer are full, and a request is used only when all of it was written. */
    ck_assert_uint_lt(host_turns(driver.loop), 50);
    ck_assert(!used_now(TRANSMIT));
    for (size_t seen = 0; seen < size;) {
        uint8_t bytes[5000];
        ssize_t got = read(out.reader, bytes, sizeof(bytes));

        ck_assert_int_gt(got, 0);
        ck_assert_mem_eq(bytes, driver_ram(&driver, DRIVER_BUFFERS + seen), got);
        seen += (size_t)got;
        if (seen < size / 2)
            ck_assert(!used_now(TRANSMIT));
        loop_turn(driver.loop, 1);
    }
    check_used(TRANSMIT, 3, 0);
    finish();
}
END_TEST

/* One round of the loop does a bounded amount of work, however much the guest has queued. */
START_TEST(an_output_flood_yields_the_loop)
{
    const bool many = _i;

    start(-1, -1); /* output is dropped at once */
    for (uint16_t i = 0; i < DRIVER_QUEUE_SIZE; i++) {
        driver_describe(&driver, TRANSMIT, i, DRIVER_BUFFERS, many ? 1 : 256 * KIB, 0, 0);
        driver_publish(&driver, TRANSMIT, i);
    }
    driver_kick(&driver, TRANSMIT);
    ck_assert_uint_eq(used_now(TRANSMIT), many ? 32 : 0);
    for (unsigned i = 0; i < DRIVER_QUEUE_SIZE; i++)
        check_used(TRANSMIT, i, 0);
    finish();
}
END_TEST

/* Requests without usable buffers are used with length 0, and the device continues. */
static const struct {
    unsigned queue;
    uint32_t len;
    uint16_t flags;
} useless[] = {
    { TRANSMIT, 0, 0 },
    { TRANSMIT, 100, DRIVER_WRITE },
    { TRANSMIT, 0, DRIVER_WRITE },
    { RECEIVE, 0, DRIVER_WRITE },
    { RECEIVE, 100, 0 },
    { RECEIVE, 0, 0 },
};

START_TEST(empty_chain)
{
    const unsigned queue = useless[_i].queue;
    struct host_pipe in = host_pipe(), out = host_pipe();
    char text[8] = "";

    start(in.reader, out.writer);
    ck_assert_int_eq(write(in.writer, "in", 2), 2);
    memset(driver_ram(&driver, DRIVER_BUFFERS), '.', 100);
    request(queue, 5, DRIVER_BUFFERS, useless[_i].len, useless[_i].flags);
    check_used(queue, 5, 0);
    for (unsigned i = 0; i < 100; i++)
        ck_assert_int_eq(((char *)driver_ram(&driver, DRIVER_BUFFERS))[i], '.');

    request(RECEIVE, 6, DRIVER_BUFFERS, 100, DRIVER_WRITE);
    check_used(RECEIVE, 6, 2);
    request(TRANSMIT, 7, DRIVER_BUFFERS, 3, 0);
    check_used(TRANSMIT, 7, 0);
    ck_assert_int_eq(read(out.reader, text, sizeof(text)), 3);
    ck_assert_str_eq(text, "in.");
    ck_assert(!driver_broken(&driver));
    finish();
}
END_TEST

START_TEST(empty_chains_without_end)
{
    struct host_pipe in = host_pipe();

    start(in.reader, -1);
    for (unsigned i = 0; i < DRIVER_QUEUE_SIZE; i++) {
        driver_describe(&driver, RECEIVE, i, DRIVER_BUFFERS, 1, i < 63 ? 0 : DRIVER_WRITE, 0);
        driver_publish(&driver, RECEIVE, (uint16_t)i);
    }
    ck_assert_int_eq(write(in.writer, "!", 1), 1);
    for (unsigned i = 0; i < DRIVER_QUEUE_SIZE; i++)
        check_used(RECEIVE, i, i == 63);
    finish();
}
END_TEST

START_TEST(buffer_outside_ram)
{
    start(-1, -1);
    request(TRANSMIT, 0, DRIVER_RAM - 10, 11, 0);
    ck_assert(driver_broken(&driver));
    request(TRANSMIT, 1, DRIVER_BUFFERS, 10, 0);
    ck_assert(!used_now(TRANSMIT));
    finish();
}
END_TEST

START_TEST(reset_in_the_middle_of_a_request)
{
    struct host_pipe out = host_pipe();
    size_t drained = 0;
    char text[8];
    int there;

    start(-1, out.writer);
    request(TRANSMIT, 0, DRIVER_BUFFERS, MIB, 0);
    host_turns(driver.loop);
    virtio_set_status(driver.device, 0);
    do {
        there = poll(&(struct pollfd){ .fd = out.reader, .events = POLLIN }, 1, 100);
        if (there > 0)
            drained += (size_t)read(out.reader, driver_ram(&driver, DRIVER_BUFFERS), MIB);
        loop_turn(driver.loop, 1);
    } while (there > 0 || terminal_queued(terminal) > 0);
    ck_assert_uint_lt(drained, 200 * KIB); /* what pipe and buffer held: the rest is dropped */

    memset(driver_ram(&driver, 0x10000), 0, 0x20000); /* clears the rings */
    ck_assert(driver_start(&driver, driver.device, 0));
    memcpy(driver_ram(&driver, DRIVER_BUFFERS), "again", 5);
    request(TRANSMIT, 1, DRIVER_BUFFERS, 5, 0);
    check_used(TRANSMIT, 1, 0);
    ck_assert_int_eq(read(out.reader, text, sizeof(text)), 5);
    ck_assert_mem_eq(text, "again", 5);
    finish();
}
END_TEST

/* Receive. */

START_TEST(input_waits_for_buffers_and_none_is_lost)
{
    struct host_pipe in = host_pipe();
    static uint8_t bytes[30000];
    struct virtio_device *device = create(in.reader, -1);
    uint32_t head, written;

    host_fill(bytes, 0, sizeof(bytes));
    ck_assert_int_eq(write(in.writer, bytes, sizeof(bytes)), sizeof(bytes));
    ck_assert_uint_lt(host_turns(driver.loop), 20); /* before there is a driver */
    ck_assert(driver_start(&driver, device, 0));
    ck_assert_uint_lt(host_turns(driver.loop), 20); /* before there is a buffer */

    for (size_t seen = 0; seen < sizeof(bytes); seen += written) {
        uint16_t index = (uint16_t)(seen % DRIVER_QUEUE_SIZE);

        request(RECEIVE, index, DRIVER_BUFFERS, 1 + (uint32_t)(seen % 200), DRIVER_WRITE);
        ck_assert(driver_wait(&driver, RECEIVE, &head, &written));
        ck_assert_uint_eq(head, index);
        ck_assert_uint_gt(written, 0);
        ck_assert_mem_eq(driver_ram(&driver, DRIVER_BUFFERS), bytes + seen, written);
    }
    finish();
}
END_TEST

START_TEST(control_characters_are_passed)
{
    struct host_pipe in = host_pipe();

    start(in.reader, -1);
    request(RECEIVE, 0, DRIVER_BUFFERS, 100, DRIVER_WRITE);
    ck_assert_int_eq(write(in.writer, "\x01x\x03\x1a", 4), 4);
    check_used(RECEIVE, 0, 4);
    ck_assert_mem_eq(driver_ram(&driver, DRIVER_BUFFERS), "\x01x\x03\x1a", 4);
    finish();
}
END_TEST

/* Configuration. */

START_TEST(size_and_resize)
{
    const struct winsize sizes[] = { { .ws_col = 80, .ws_row = 25 },
                                     { .ws_col = 300, .ws_row = 1 } };
    struct host_pty pty = host_pty();
    uint8_t config[VIRTIO_MAX_CONFIG];

    ck_assert_int_eq(ioctl(pty.slave, TIOCSWINSZ, &sizes[0]), 0);
    ck_assert(driver_start(&driver, create(-1, pty.slave), BIT(VIRTIO_CONSOLE_F_SIZE)));
    virtio_read_config(driver.device, config);
    ck_assert_mem_eq(config, "\x50\0\x19\0", 4);
    ck_assert_uint_eq(driver.config_changes, 0);

    ck_assert_int_eq(ioctl(pty.slave, TIOCSWINSZ, &sizes[1]), 0);
    terminal_window_changed(terminal);
    ck_assert_uint_eq(driver.config_changes, 1);
    virtio_read_config(driver.device, config);
    ck_assert_mem_eq(config, "\x2c\x01\x01\0", 4);
    finish();
}
END_TEST

START_TEST(size_is_repeated_with_output_but_does_not_flood)
{
    const struct winsize size = { .ws_col = 80, .ws_row = 25 };
    struct host_pty pty = host_pty();

    ck_assert_int_eq(ioctl(pty.slave, TIOCSWINSZ, &size), 0);
    still_clock_set_ms(10000);
    ck_assert(driver_start(&driver, create(-1, pty.slave), BIT(VIRTIO_CONSOLE_F_SIZE)));
    for (unsigned i = 0; i < 20; i++) {
        still_clock_set_ms(10000 + 40 * i);
        request(TRANSMIT, i % 4, DRIVER_BUFFERS, 1, 0);
        check_used(TRANSMIT, i % 4, 0);
    }
    still_clock_set_ms(0);
    ck_assert_uint_ge(driver.config_changes, 1);
    ck_assert_uint_le(driver.config_changes, 10);
    finish();
}
END_TEST

START_TEST(features_not_offered_are_refused)
{
    struct host_pipe out = host_pipe();
    struct virtio_device *device = create(-1, out.writer);

    ck_assert(!(virtio_offered_features(device) & BIT(VIRTIO_CONSOLE_F_MULTIPORT)));
    ck_assert(!driver_start(&driver, device, BIT(VIRTIO_CONSOLE_F_MULTIPORT)));
    finish();
}
END_TEST

START_TEST(emergency_write_needs_no_queue)
{
    struct host_pipe out = host_pipe();
    struct virtio_device *device = create(-1, out.writer);
    char text[8] = "";

    driver_find(&driver, device);
    for (const char *c = "help"; *c; c++)
        virtio_write_config(device, 8, 4, 0xabcdef00u | (uint8_t)*c);
    virtio_write_config(device, 0, 4, '!'); /* no effect: the size is read-only */
    virtio_write_config(device, 11, 1, '!');
    finish();
    ck_assert_int_eq(read(out.reader, text, sizeof(text)), 4);
    ck_assert_str_eq(text, "help");
}
END_TEST

/* Pause, save and load. */

static void pause_console(void)
{
    terminal_pause(terminal);
    ck_assert_int_eq(virtio_pause(driver.device, clock_now_ns() + 1000000000), 0);
}

static void resume_console(void)
{
    virtio_resume(driver.device);
    terminal_resume(terminal);
}

/* Replaces the paused console by another machine's, and loads its state. */
static void move_to_another_machine(int input, int output)
{
    struct saved_virtio from = saved_virtio(driver.device), to;
    struct virtio_device *device;
    struct state saved;

    saved_take(&saved, &from.device);
    virtio_destroy(driver.device);
    terminal_destroy(terminal, 0);
    terminal = host_terminal(driver.loop, input, output);
    ck_assert_int_eq(virtio_console_create(
                         &device, "console",
                         &(struct virtio_console_port){ .terminal = terminal, .console = true }, 1,
                         driver.mem, driver.loop),
                     0);
    driver_find(&driver, device);
    pause_console();
    to = saved_virtio(device);
    saved_restore(&saved, &to.device);
}

/* Reads and checks the test data that is in the pipe now; returns how many bytes. */
static size_t read_data(int fd, size_t from, size_t at_most)
{
    static uint8_t bytes[MIB];
    size_t seen = 0;

    while (seen < at_most && poll(&(struct pollfd){ .fd = fd, .events = POLLIN }, 1, 100) > 0) {
        ssize_t got = read(fd, bytes, at_most - seen);

        ck_assert_int_gt(got, 0);
        for (ssize_t i = 0; i < got; i++)
            ck_assert_uint_eq(bytes[i], host_byte(from + seen + (size_t)i));
        seen += (size_t)got;
    }
    return seen;
}

START_TEST(a_request_sent_in_part_continues_after_each_pause)
{
    struct host_pipe out = host_pipe();
    const uint32_t size = MIB;
    unsigned used;
    size_t seen = 0;

    start(-1, out.writer);
    host_fill(driver_ram(&driver, DRIVER_BUFFERS), 0, size);
    request(TRANSMIT, 3, DRIVER_BUFFERS, size, 0);
    while (seen < size) {
        host_turns(driver.loop);
        used = used_now(TRANSMIT);
        pause_console();
        seen +=
            read_data(out.reader, seen, 100 * KIB); /* the pipe has room, but the guest is paused */
        driver_kick(&driver, TRANSMIT);
        host_turns(driver.loop);
        ck_assert_uint_eq(used_now(TRANSMIT), used);
        resume_console();
        if (seen > size - 100 * KIB)
            seen += read_data(out.reader, seen, size - seen);
    }
    check_used(TRANSMIT, 3, 0);
    ck_assert_uint_eq(read_data(out.reader, seen, 1), 0);
    finish();
}
END_TEST

START_TEST(a_request_sent_in_part_continues_in_another_machine)
{
    struct host_pipe out = host_pipe(), other = host_pipe();
    const uint32_t size = MIB;
    size_t seen;

    start(-1, out.writer);
    host_fill(driver_ram(&driver, DRIVER_BUFFERS), 0, size);
    request(TRANSMIT, 3, DRIVER_BUFFERS, size, 0);
    host_turns(driver.loop);
    pause_console();
    seen = read_data(out.reader, 0, size); /* the old host's terminal still writes its buffer */
    ck_assert_uint_gt(seen, 100 * KIB);
    ck_assert_uint_lt(seen, size);
    move_to_another_machine(-1, other.writer);
    resume_console();
    for (size_t got = 1; seen < size && got > 0; seen += got) {
        host_turns(driver.loop);
        got = read_data(other.reader, seen, size - seen);
    }
    ck_assert_uint_eq(seen, size);
    check_used(TRANSMIT, 3, 0);
    request(TRANSMIT, 4, DRIVER_BUFFERS, 10, 0);
    check_used(TRANSMIT, 4, 0);
    ck_assert_uint_eq(read_data(other.reader, 0, 100), 10);
    finish();
}
END_TEST

/* The request was shortened while the console was paused. */
START_TEST(a_request_sent_in_part_and_shortened_while_paused)
{
    struct host_pipe out = host_pipe();
    size_t seen;

    start(-1, out.writer);
    host_fill(driver_ram(&driver, DRIVER_BUFFERS), 0, MIB);
    request(TRANSMIT, 3, DRIVER_BUFFERS, MIB, 0);
    host_turns(driver.loop);
    pause_console();
    seen = read_data(out.reader, 0, MIB);
    driver_describe(&driver, TRANSMIT, 3, DRIVER_BUFFERS, (uint32_t)seen + (unsigned)_i, 0, 0);
    resume_console();
    check_used(TRANSMIT, 3, 0);
    ck_assert_uint_eq(read_data(out.reader, seen, 10), (unsigned)_i);
    request(TRANSMIT, 4, DRIVER_BUFFERS, 10, 0); /* nothing of it is skipped */
    ck_assert_uint_eq(read_data(out.reader, 0, 100), 10);
    finish();
}
END_TEST

static void pause_terminal(void *arg)
{
    terminal_pause(terminal);
}

static void resume_terminal(void *arg)
{
    terminal_resume(terminal);
}

static void *read_slowly(void *arg)
{
    const struct host_pipe *out = arg;

    return host_expect(out->reader, 2 * MIB, true) ? arg : NULL;
}

/* As in a machine: the loop has a thread, pause() and state() run on another. */
START_TEST(many_pauses_lose_no_byte)
{
    const uint32_t size = 2 * MIB, count = 8;
    struct host_pipe out = host_pipe();
    struct saved_virtio console;
    struct state saved;
    pthread_t reader;
    void *complete;

    start(-1, out.writer);
    host_fill(driver_ram(&driver, DRIVER_BUFFERS), 0, size);
    console = saved_virtio(driver.device);
    for (uint16_t i = 0; i < count; i++) {
        driver_describe(&driver, TRANSMIT, i, DRIVER_BUFFERS + i * (size / count), size / count, 0,
                        0);
        driver_publish(&driver, TRANSMIT, i);
    }
    ck_assert_int_eq(loop_start(driver.loop, "console"), 0);
    virtio_kick(driver.device, TRANSMIT);
    pthread_create(&reader, NULL, read_slowly, &out);
    for (unsigned i = 0; i < 500; i++) {
        loop_call(driver.loop, pause_terminal, NULL);
        ck_assert_int_eq(virtio_pause(driver.device, clock_now_ns() + 10000000000), 0);
        saved_take(&saved, &console.device);
        state_finish(&saved);
        virtio_resume(driver.device);
        loop_call(driver.loop, resume_terminal, NULL);
        usleep(i % 8 * 100);
    }
    pthread_join(reader, &complete);
    ck_assert_ptr_nonnull(complete);
    loop_join(driver.loop);
    for (unsigned i = 0; i < count; i++)
        check_used(TRANSMIT, i, 0);
    finish();
}
END_TEST

START_TEST(input_arrives_after_the_pause)
{
    struct host_pipe in = host_pipe();

    start(in.reader, -1);
    request(RECEIVE, 0, DRIVER_BUFFERS, 100, DRIVER_WRITE);
    pause_console();
    ck_assert_int_eq(write(in.writer, "typed", 5), 5);
    driver_kick(&driver, RECEIVE);
    host_turns(driver.loop);
    ck_assert(!used_now(RECEIVE));
    move_to_another_machine(in.reader, -1); /* the old terminal has read it: lost */
    ck_assert_int_eq(write(in.writer, "again", 5), 5);
    host_turns(driver.loop);
    ck_assert(!used_now(RECEIVE));
    ck_assert_uint_eq(driver.interrupts, 0);
    resume_console();
    check_used(RECEIVE, 0, 5);
    ck_assert_mem_eq(driver_ram(&driver, DRIVER_BUFFERS), "again", 5);
    finish();
}
END_TEST

START_TEST(size_of_another_machines_terminal_is_announced)
{
    const struct winsize sizes[] = { { .ws_col = 80, .ws_row = 25 },
                                     { .ws_col = 300, .ws_row = 1 } };
    struct host_pty pty = host_pty(), other = host_pty();
    uint8_t config[VIRTIO_MAX_CONFIG];

    ck_assert_int_eq(ioctl(pty.slave, TIOCSWINSZ, &sizes[0]), 0);
    ck_assert_int_eq(ioctl(other.slave, TIOCSWINSZ, &sizes[1]), 0);
    ck_assert(driver_start(&driver, create(-1, pty.slave), BIT(VIRTIO_CONSOLE_F_SIZE)));
    pause_console();
    terminal_window_changed(terminal);
    move_to_another_machine(-1, other.slave);
    ck_assert_uint_eq(driver.config_changes, 0);
    resume_console();
    ck_assert_uint_eq(driver.config_changes, 1);
    virtio_read_config(driver.device, config);
    ck_assert_mem_eq(config, "\x2c\x01\x01\0", 4);
    pause_console();
    resume_console();
    ck_assert_uint_eq(driver.config_changes, 1); /* announced once */
    finish();
}
END_TEST

START_TEST(a_machine_saved_on_a_terminal_is_restored_without_one)
{
    const struct winsize size = { .ws_col = 80, .ws_row = 25 };
    struct host_pipe out = host_pipe();
    struct host_pty pty = host_pty();

    ck_assert_int_eq(ioctl(pty.slave, TIOCSWINSZ, &size), 0);
    ck_assert(driver_start(&driver, create(-1, pty.slave), BIT(VIRTIO_CONSOLE_F_SIZE)));
    pause_console();
    move_to_another_machine(-1, out.writer);
    resume_console();
    request(TRANSMIT, 0, DRIVER_BUFFERS, 1, 0);
    check_used(TRANSMIT, 0, 0);
    ck_assert_uint_eq(driver.config_changes, 0); /* it keeps the old size */
    finish();
}
END_TEST

static const struct {
    const char *field;
    uint8_t value;
    const char *why;
} damaged[] = {
    { "ready", 1, "port 0 without MULTIPORT" },
    { "open", 1, "port 0 without MULTIPORT" },
    { "due", 4, "port 0 without MULTIPORT" },
    { "due", 0x10, "due: 0x10 has unknown messages" },
    { "due", 0x20, "due: 0x20 has unknown messages" },
    { "ending", 1, "ending: a console port is never closed" },
};

START_TEST(damaged_state_is_refused)
{
    struct saved_virtio console;

    start(-1, -1);
    pause_console();
    console = saved_virtio(driver.device);
    saved_check_refused(&console.device, damaged[_i].field, damaged[_i].value, damaged[_i].why);
    finish();
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("console");
    TCase *tcase = tcase_create("console");

    tcase_set_timeout(tcase, 20);
    tcase_add_test(tcase, output_split_over_many_descriptors);
    tcase_add_test(tcase, a_slow_reader_gets_every_byte);
    tcase_add_loop_test(tcase, an_output_flood_yields_the_loop, 0, 2);
    tcase_add_loop_test(tcase, empty_chain, 0, ARRAY_SIZE(useless));
    tcase_add_test(tcase, empty_chains_without_end);
    tcase_add_test(tcase, buffer_outside_ram);
    tcase_add_test(tcase, reset_in_the_middle_of_a_request);
    tcase_add_test(tcase, input_waits_for_buffers_and_none_is_lost);
    tcase_add_test(tcase, control_characters_are_passed);
    tcase_add_test(tcase, size_and_resize);
    tcase_add_test(tcase, size_is_repeated_with_output_but_does_not_flood);
    tcase_add_test(tcase, features_not_offered_are_refused);
    tcase_add_test(tcase, emergency_write_needs_no_queue);
    tcase_add_test(tcase, a_request_sent_in_part_continues_after_each_pause);
    tcase_add_test(tcase, a_request_sent_in_part_continues_in_another_machine);
    tcase_add_loop_test(tcase, a_request_sent_in_part_and_shortened_while_paused, 0, 3);
    tcase_add_test(tcase, many_pauses_lose_no_byte);
    tcase_add_test(tcase, input_arrives_after_the_pause);
    tcase_add_test(tcase, size_of_another_machines_terminal_is_announced);
    tcase_add_test(tcase, a_machine_saved_on_a_terminal_is_restored_without_one);
    tcase_add_loop_test(tcase, damaged_state_is_refused, 0, ARRAY_SIZE(damaged));
    suite_add_tcase(suite, tcase);
    return unit_run(suite);
}
