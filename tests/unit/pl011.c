/* SPDX-License-Identifier: MIT */
#include "devices/chips/pl011.h"

#include <string.h>

#include "tests/unit/host.h"
#include "tests/unit/saved.h"
#include "tests/unit/unit.h"
#include "vmm/core/base.h"

#define BASE 0x9000000

enum { DATA = 0, FLAGS = 0x18, LINE = 0x2c, CONTROL = 0x30, LEVELS = 0x34 };
enum { MASK = 0x38, RAW = 0x3c, PENDING = 0x40, CLEAR = 0x44, ID = 0xfe0 };
enum { CONTROL_ALL = 0xb01, FIFO = 0x10 };
enum { IRQ_RECEIVE = 0x10, IRQ_TRANSMIT = 0x20, IRQ_TIME_OUT = 0x40 };
enum { FLAG_EMPTY = 0x10, FLAG_FULL = 0x40 };

/* The machine around the port. `in` is its input, `out` what the guest sends. */
static struct {
    struct bus bus;
    struct loop *loop;
    struct terminal *terminal;
    struct chip *uart;
    struct host_pipe in, out;
    bool level;
    bool may_repeat; /* irq_set() may be called with an unchanged level */
} board;

static void board_irq(void *chip, uint32_t pin, bool level)
{
    ck_assert_uint_eq(pin, 1);
    ck_assert(level != board.level || board.may_repeat); /* no redundant ioctl */
    board.level = level;
}

static void set_up(void)
{
    const struct irq_line irq = { board_irq, &board, 1 };

    memset(&board, 0, sizeof(board));
    board.loop = loop_create();
    board.in = host_pipe();
    board.out = host_pipe();
    board.terminal = host_terminal(board.loop, board.in.reader, board.out.writer);
    board.uart = pl011_create("pl011", BASE, &irq, board.terminal);
    ck_assert_int_eq(bus_map(&board.bus, &board.uart->region), 0);
}

static void tear_down(void)
{
    board.uart->device.ops->destroy(&board.uart->device);
    terminal_destroy(board.terminal, 0);
    loop_destroy(board.loop);
}

static uint64_t in(unsigned reg)
{
    return bus_read(&board.bus, BASE + reg, 4);
}

static void out(unsigned reg, unsigned value)
{
    bus_write(&board.bus, BASE + reg, 4, value);
}

static void turn(void)
{
    for (unsigned i = 0; i < 3; i++)
        loop_turn(board.loop, 10);
}

static void type(const char *bytes, size_t count)
{
    ck_assert_int_eq(write(board.in.writer, bytes, count), count);
    turn();
}

static void enable_receiver_and_fifo(void)
{
    out(LINE, FIFO);
    out(CONTROL, CONTROL_ALL);
}

START_TEST(written_bytes_are_sent)
{
    char got[8] = "";

    bus_write(&board.bus, BASE, 1, 'a');
    bus_write(&board.bus, BASE, 2, 'b');
    bus_write(&board.bus, BASE, 4, 'c');
    bus_write(&board.bus, BASE + 1, 1, 'x'); /* no register there */
    /* A thread, which the loop starts, writes the output in one or more pieces. */
    loop_turn(board.loop, 0);
    for (ssize_t count = 0; count < 3;)
        count += read(board.out.reader, got + count, sizeof(got) - (size_t)count);
    ck_assert_str_eq(got, "abc");
}
END_TEST

/* What each register reads after it was written, and after a reset. */
static const struct {
    unsigned reg, written, read, reset;
} registers[] = {
    { 0x20, 0xffff, 0xffff, 0 },
    { 0x24, 0x1234, 0x1234, 0 },
    { 0x28, 0x3f, 0x3f, 0 },
    { LINE, 0xfff, 0xff, 0 },
    { CONTROL, 0xb01, 0xb01, 0x300 },
    { LEVELS, 0x3f, 0x3f, 0x12 },
    { MASK, 0xffffffff, 0x7ff, 0 },
    { FLAGS, 0xff, 0x97, 0x97 },
    { RAW, 0x7ff, 0, 0 },
    { PENDING, 0x7ff, 0, 0 },
    { CLEAR, 0x7ff, 0, 0 },
    { 0x48, 7, 7, 0 },
    { 0x4c, 0xff, 0, 0 },
    { 0x100, 0xff, 0, 0 },
    { ID, 0xff, 0x11, 0x11 },
    { ID + 8, 0xff, 0x34, 0x34 },
    { ID + 28, 0xff, 0xb1, 0xb1 },
};

START_TEST(register_matrix)
{
    ck_assert_uint_eq(in(registers[_i].reg), registers[_i].reset);
    out(registers[_i].reg, registers[_i].written);
    ck_assert_uint_eq(in(registers[_i].reg), registers[_i].read);
    board.uart->device.ops->reset(&board.uart->device);
    ck_assert_uint_eq(in(registers[_i].reg), registers[_i].reset);
}
END_TEST

START_TEST(transmit_interrupt_until_cleared)
{
    out(DATA, 'a');
    ck_assert(!board.level); /* masked */
    ck_assert_uint_eq(in(RAW), IRQ_TRANSMIT);
    ck_assert_uint_eq(in(PENDING), 0);
    out(MASK, IRQ_TRANSMIT);
    ck_assert(board.level);
    out(CLEAR, ~IRQ_TRANSMIT);
    ck_assert(board.level);
    out(CLEAR, IRQ_TRANSMIT);
    ck_assert(!board.level);
    out(DATA, 'b');
    ck_assert(board.level);
    board.uart->device.ops->reset(&board.uart->device);
    ck_assert(!board.level);
}
END_TEST

/* Each of these values lacks a bit of CONTROL that receiving needs. */
START_TEST(input_waits_until_the_receiver_is_enabled)
{
    static const unsigned disabled[] = {
        0, 1, 0x800, 0x200, CONTROL_ALL & ~1, CONTROL_ALL & ~0x200, CONTROL_ALL & ~0x800
    };

    out(LINE, FIFO);
    out(CONTROL, disabled[_i]);
    type("ab", 2);
    ck_assert_uint_eq(in(FLAGS)&FLAG_EMPTY, FLAG_EMPTY);
    out(CONTROL, CONTROL_ALL);
    turn();
    ck_assert_uint_eq(in(DATA), 'a');
    ck_assert_uint_eq(in(DATA), 'b');
    ck_assert_uint_eq(in(FLAGS)&FLAG_EMPTY, FLAG_EMPTY);
    ck_assert_uint_eq(in(DATA), 0);
}
END_TEST

START_TEST(receive_interrupts_until_read)
{
    enable_receiver_and_fifo();
    out(MASK, IRQ_RECEIVE | IRQ_TIME_OUT);
    type("abc", 3);
    ck_assert(board.level);
    ck_assert_uint_eq(in(PENDING), IRQ_TIME_OUT); /* below the trigger level */
    out(CLEAR, IRQ_RECEIVE | IRQ_TIME_OUT);
    ck_assert(board.level); /* the bytes are still in the FIFO */
    for (unsigned i = 0; i < 3; i++)
        in(DATA);
    ck_assert(!board.level);
    type("0123456789abcdef", 16); /* the trigger level after a reset: half of the FIFO */
    ck_assert_uint_eq(in(PENDING), IRQ_RECEIVE | IRQ_TIME_OUT);
    in(DATA);
    ck_assert_uint_eq(in(PENDING), IRQ_TIME_OUT);
}
END_TEST

/* Depth of the FIFO, set by the line register. More input waits in the terminal. */
static const struct {
    unsigned line, depth;
} fifos[] = { { 0, 1 }, { FIFO, 32 } };

START_TEST(input_longer_than_the_fifo)
{
    char text[100];

    for (unsigned i = 0; i < sizeof(text); i++)
        text[i] = (char)(i + 1);
    out(LINE, fifos[_i].line);
    out(CONTROL, CONTROL_ALL);
    type(text, sizeof(text));
    ck_assert_uint_eq(in(FLAGS)&FLAG_FULL, FLAG_FULL);
    for (unsigned i = 0; i < sizeof(text); i++) {
        if (i % fifos[_i].depth == 0)
            turn();
        ck_assert_uint_eq(in(DATA), i + 1);
    }
    turn();
    ck_assert_uint_eq(in(FLAGS)&FLAG_EMPTY, FLAG_EMPTY);
}
END_TEST

START_TEST(disabling_the_fifo_empties_it)
{
    enable_receiver_and_fifo();
    type("abc", 3);
    out(LINE, FIFO | 0x60);
    ck_assert_uint_eq(in(FLAGS)&FLAG_EMPTY, 0);
    out(LINE, 0x60);
    ck_assert_uint_eq(in(FLAGS)&FLAG_EMPTY, FLAG_EMPTY);
}
END_TEST

static void resume(void)
{
    board.may_repeat = true;
    board.uart->device.ops->resume(&board.uart->device);
    board.may_repeat = false;
}

/* Saves the port, and loads its state into that of a new machine. */
static void restore_into_new_machine(void)
{
    const struct irq_line irq = { board_irq, &board, 1 };
    struct state saved;

    saved_take(&saved, &board.uart->device);
    board.uart->device.ops->destroy(&board.uart->device);
    board.uart = pl011_create("pl011", BASE, &irq, board.terminal);
    saved_restore(&saved, &board.uart->device);
    board.bus = (struct bus){ 0 };
    ck_assert_int_eq(bus_map(&board.bus, &board.uart->region), 0);
    board.level = false;
}

START_TEST(a_restored_port_continues)
{
    static const struct {
        unsigned reg, value;
    } written[] = { { 0x20, 0x1234 },         { 0x24, 0x4321 }, { 0x28, 0x3f },  { LINE, 0x70 },
                    { CONTROL, CONTROL_ALL }, { LEVELS, 0x09 }, { MASK, 0x7ff }, { 0x48, 7 } };

    for (unsigned i = 0; i < ARRAY_SIZE(written); i++)
        out(written[i].reg, written[i].value);
    type("received", 8);
    out(DATA, 'x');
    restore_into_new_machine();

    resume();
    ck_assert(board.level);
    ck_assert_uint_eq(in(PENDING), IRQ_RECEIVE | IRQ_TIME_OUT | IRQ_TRANSMIT);
    for (unsigned i = 0; i < ARRAY_SIZE(written); i++)
        ck_assert_uint_eq(in(written[i].reg), written[i].value);
    for (const char *c = "received"; *c; c++)
        ck_assert_uint_eq(in(DATA), (unsigned)*c);
    out(CLEAR, IRQ_TRANSMIT);
    ck_assert(!board.level);
    type("more", 4);
    ck_assert_uint_eq(in(DATA), 'm');
}
END_TEST

START_TEST(resume_sets_the_interrupt_level_again)
{
    out(MASK, IRQ_TRANSMIT);
    out(DATA, 'x');
    ck_assert(board.level);
    board.level = false; /* lost by the interrupt controller */
    resume();
    ck_assert(board.level);
    out(CLEAR, IRQ_TRANSMIT);
    board.level = true; /* stale in the interrupt controller */
    resume();
    ck_assert(!board.level);
}
END_TEST

START_TEST(damaged_state_is_refused)
{
    struct device *dev = &board.uart->device;

    saved_check_refused(dev, "fifo", 2, "fifo: 2 bytes, at most 1");
    saved_check_refused(dev, "transmitted", 2, "transmitted: neither true nor false");
    enable_receiver_and_fifo();
    saved_check_refused(dev, "fifo", 33, "fifo: 33 bytes, at most 32");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("pl011");
    TCase *tests = tcase_create("pl011");

    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_add_test(tests, written_bytes_are_sent);
    tcase_add_loop_test(tests, register_matrix, 0, ARRAY_SIZE(registers));
    tcase_add_test(tests, transmit_interrupt_until_cleared);
    tcase_add_loop_test(tests, input_waits_until_the_receiver_is_enabled, 0, 7);
    tcase_add_test(tests, receive_interrupts_until_read);
    tcase_add_loop_test(tests, input_longer_than_the_fifo, 0, ARRAY_SIZE(fifos));
    tcase_add_test(tests, disabling_the_fifo_empties_it);
    tcase_add_test(tests, a_restored_port_continues);
    tcase_add_test(tests, resume_sets_the_interrupt_level_again);
    tcase_add_test(tests, damaged_state_is_refused);
    suite_add_tcase(suite, tests);
    return unit_run(suite);
}
