/* SPDX-License-Identifier: MIT */
#include "devices/chips/uart16550.h"

#include <pthread.h>
#include <string.h>
#include <sys/mman.h>

#include "tests/unit/host.h"
#include "tests/unit/saved.h"
#include "tests/unit/unit.h"
#include "vmm/core/base.h"

#define COM1 0x3f8

enum { DATA, IER, IIR, LCR, MCR, LSR, MSR, SCR, FCR = IIR };
enum { RTS = 2, LOOPBACK = 0x10 };

/* The machine around the port. `in` is its input, `out` what the guest sends. */
static struct {
    struct bus bus;
    struct loop *loop;
    struct terminal *terminal;
    struct chip *uart;
    struct host_pipe in, out;
    unsigned edges;
    bool level;
    bool may_repeat; /* irq_set() may be called with an unchanged level */
} board;

static void board_irq(void *chip, uint32_t pin, bool level)
{
    ck_assert_uint_eq(pin, 4);
    ck_assert(level != board.level || board.may_repeat); /* no redundant ioctl */
    board.edges += level;
    board.level = level;
}

static void set_up(void)
{
    const struct irq_line irq = { board_irq, &board, 4 };

    memset(&board, 0, sizeof(board));
    board.loop = loop_create();
    board.in = host_pipe();
    board.out = host_pipe();
    board.terminal = host_terminal(board.loop, board.in.reader, board.out.writer);
    board.uart = uart16550_create("serial0", COM1, &irq, board.terminal);
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
    return bus_read(&board.bus, COM1 + reg, 1);
}

static void out(unsigned reg, unsigned value)
{
    bus_write(&board.bus, COM1 + reg, 1, value);
}

static void out_string(const char *string)
{
    for (; *string; string++)
        out(DATA, (uint8_t)*string);
}

static void type(const char *bytes, size_t count)
{
    ck_assert_int_eq(write(board.in.writer, bytes, count), count);
    for (unsigned i = 0; i < 3; i++)
        loop_turn(board.loop, 10);
}

/* Registers. */

/* What each register reads after it was written: masks, and read-only registers. */
static const struct {
    unsigned lcr, reg, written, read;
} registers[] = {
    { 0x00, IER, 0xff, 0x0f },  { 0x00, LCR, 0x7f, 0x7f }, { 0x00, MCR, 0xff, 0x1f },
    { 0x00, SCR, 0xa5, 0xa5 },  { 0x00, LSR, 0xff, 0x60 }, { 0x00, MSR, 0xff, 0xb0 },
    { 0x00, FCR, 0x00, 0x01 },  { 0x00, FCR, 0x01, 0xc1 }, { 0x00, FCR, 0xce, 0x01 },
    { 0x00, FCR, 0xff, 0xc1 }, /* no 64-byte FIFO: bit 5 stays 0 */
    { 0x80, DATA, 0x5a, 0x5a }, { 0x80, IER, 0xa5, 0xa5 }, { 0x80, LCR, 0xbf, 0xbf },
    { 0xbf, FCR, 0x01, 0xc1 },  { 0x80, SCR, 0x77, 0x77 },
};

START_TEST(register_matrix)
{
    out(LCR, registers[_i].lcr);
    out(registers[_i].reg, registers[_i].written);
    ck_assert_uint_eq(in(registers[_i].reg), registers[_i].read);
}
END_TEST

START_TEST(divisor_has_registers_of_its_own)
{
    out(IER, 4);
    out(LCR, 0x83);
    bus_write(&board.bus, COM1, 2, 0x1234); /* two accesses of one byte */
    ck_assert_uint_eq(in(DATA), 0x34);
    ck_assert_uint_eq(in(IER), 0x12);
    ck_assert_uint_eq(bus_read(&board.bus, COM1, 2), 0x1234);
    out(LCR, 3);
    ck_assert_uint_eq(in(IER), 4);
    ck_assert_uint_eq(in(DATA), 0);
}
END_TEST

/* A wide access has the same effect as its bytes, written to a second port one by one. */
START_TEST(every_width_at_every_offset)
{
    for (unsigned size = 1; size <= 8; size *= 2)
        for (unsigned offset = 0; offset + size <= UART16550_SIZE; offset++) {
            const uint64_t pattern = 0x53b102c71f804113ull; /* some bytes set DLAB */
            uint64_t wide, bytes = 0;

            board.uart->device.ops->reset(&board.uart->device);
            bus_write(&board.bus, COM1 + offset, size, pattern);
            wide = bus_read(&board.bus, COM1 + offset, size);
            board.uart->device.ops->reset(&board.uart->device);
            for (unsigned i = 0; i < size; i++)
                out(offset + i, (uint8_t)(pattern >> 8 * i));
            for (unsigned i = 0; i < size; i++)
                bytes |= in(offset + i) << 8 * i;
            ck_assert_uint_eq(wide, bytes);
            ck_assert(size == 8 || wide >> 8 * size == 0);
        }
    ck_assert_uint_eq(bus_read(&board.bus, COM1 + 7, 2), UINT64_MAX);
    ck_assert_uint_eq(bus_read(&board.bus, COM1 + 8, 1), UINT64_MAX);
}
END_TEST

START_TEST(linux_autoconfig_finds_a_16550a)
{
    out(IER, 0);
    ck_assert_uint_eq(in(IER)&0x0f, 0);
    out(IER, 0x0f);
    ck_assert_uint_eq(in(IER)&0x0f, 0x0f);
    out(IER, 0);
    out(MCR, LOOPBACK | 0x0a);
    ck_assert_uint_eq(in(MSR)&0xf0, 0x90);
    out(MCR, 0);
    out(FCR, 1);
    ck_assert_uint_eq(in(IIR) >> 6, 3);
    /* Must not be taken for a 16650, 16750 or XScale. */
    out(LCR, 0xbf);
    ck_assert_uint_ne(in(FCR), 0);
    out(LCR, 0x80);
    out(FCR, 0x21);
    ck_assert_uint_eq(in(IIR) >> 5, 6);
    out(LCR, 0);
    out(IER, 0x40);
    ck_assert_uint_eq(in(IER)&0x40, 0);
}
END_TEST

START_TEST(reset_restores_the_power_on_state)
{
    out(MCR, LOOPBACK | 0x0f);
    out(FCR, 0xc1);
    out(IER, 0x0f);
    out_string("left over");
    ck_assert(board.level);
    out(LCR, 0x83);
    board.uart->device.ops->reset(&board.uart->device);
    ck_assert(!board.level);
    ck_assert_uint_eq(bus_read(&board.bus, COM1, 8), 0x00b0600000010000ull);
}
END_TEST

/* Transmit. */

START_TEST(written_bytes_are_sent)
{
    char text[8] = "";

    out_string("abc");
    out(LCR, 0x80);
    out(DATA, 'd'); /* the divisor */
    out(LCR, 0);
    out(MCR, LOOPBACK);
    out(DATA, 'e'); /* looped back */
    out(MCR, 0);
    bus_write(&board.bus, COM1, 4, 'f'); /* and IER, FCR and LCR */
    out(DATA, '\x03');
    ck_assert_uint_eq(in(LSR), 0x60 | 1);
    board.uart->device.ops->reset(&board.uart->device);
    /* A thread, which the loop starts, writes the output in one or more pieces. */
    loop_turn(board.loop, 0);
    for (ssize_t count = 0; count < 5;)
        count += read(board.out.reader, text + count, sizeof(text) - (size_t)count);
    ck_assert_str_eq(text, "abcf\x03");
    usleep(50000);
    ck_assert_int_eq(poll(&(struct pollfd){ .fd = board.out.reader, .events = POLLIN }, 1, 0), 0);
}
END_TEST

START_TEST(transmitter_interrupts_when_enabled_and_when_emptied)
{
    out(IER, 2);
    ck_assert_uint_eq(board.edges, 1);
    ck_assert_uint_eq(in(IIR), 0x02);
    ck_assert(!board.level); /* acknowledged by reading IIR */
    ck_assert_uint_eq(in(IIR), 0x01);
    out(IER, 2);
    ck_assert_uint_eq(in(IIR), 0x01); /* was enabled already */
    out(IER, 0);
    out(IER, 2);
    ck_assert_uint_eq(in(IIR), 0x02);
    out(DATA, 'x');
    ck_assert_uint_eq(board.edges, 3);
    ck_assert_uint_eq(in(IIR), 0x02);
}
END_TEST

START_TEST(a_burst_raises_one_interrupt)
{
    out(IER, 2);
    for (unsigned i = 0; i < 1000; i++)
        out(DATA, 'x');
    ck_assert_uint_eq(board.edges, 1);
}
END_TEST

START_TEST(interrupts_by_priority)
{
    static const uint8_t expected[] = { 0xc6, 0xc4, 0xcc, 0xc2, 0xc0, 0xc1 };
    unsigned i = 0;

    out(MCR, LOOPBACK);
    out(FCR, 0x41); /* an interrupt at 4 bytes */
    out_string("0123456789abcdef overrun");
    out(MCR, LOOPBACK | 1);
    out(IER, 0x0f);
    ck_assert_uint_eq(in(IIR), expected[i++]);
    ck_assert_uint_eq(in(LSR)&0x0f, 3); /* overrun, cleared by reading */
    ck_assert_uint_eq(in(IIR), expected[i++]);
    for (unsigned left = 16; left > 3; left--)
        ck_assert_uint_eq(in(DATA), "fedcba9876543210"[left - 1]);
    ck_assert_uint_eq(in(IIR), expected[i++]);
    while (in(LSR)&1)
        in(DATA);
    ck_assert_uint_eq(in(IIR), expected[i++]);
    ck_assert_uint_eq(in(IIR), expected[i++]);
    in(MSR);
    ck_assert_uint_eq(in(IIR), expected[i++]);
    ck_assert_uint_eq(i, ARRAY_SIZE(expected));
    ck_assert(!board.level);
}
END_TEST

static const struct {
    unsigned mcr, lines;
} loopbacks[] = {
    { 0x10, 0x00 }, { 0x11, 0x20 }, { 0x12, 0x10 }, { 0x14, 0x40 }, { 0x18, 0x80 }, { 0x1f, 0xf0 },
};

START_TEST(loopback_of_the_modem_lines)
{
    out(MCR, LOOPBACK);
    in(MSR);
    out(MCR, loopbacks[_i].mcr);
    /* A change of a line is reported once; of RI, only its end. */
    ck_assert_uint_eq(in(MSR), loopbacks[_i].lines | (loopbacks[_i].lines >> 4 & ~4u));
    ck_assert_uint_eq(in(MSR), loopbacks[_i].lines);
    out(MCR, LOOPBACK);
    ck_assert_uint_eq(in(MSR), loopbacks[_i].lines >> 4);
}
END_TEST

/* Receive. */

START_TEST(input_waits_until_the_guest_raises_rts)
{
    type("early", 5);
    out(FCR, 7); /* as drivers do first: they clear the FIFO and read registers */
    in(DATA);
    in(LSR);
    loop_turn(board.loop, 10);
    ck_assert_uint_eq(in(LSR)&1, 0);

    out(MCR, RTS);
    loop_turn(board.loop, 1000);
    for (const char *c = "early"; *c; c++) {
        ck_assert_uint_eq(in(LSR)&1, 1);
        ck_assert_uint_eq(in(DATA), (unsigned)*c);
    }
    ck_assert_uint_eq(in(LSR)&1, 0);
}
END_TEST

/* The trigger level, the number of bytes typed, and the interrupt that IIR shows. */
static const struct {
    unsigned fcr, typed, interrupt;
} triggers[] = {
    { 0x00, 1, 0x04 },  { 0x01, 1, 0xc4 },  { 0x41, 3, 0xcc },
    { 0x41, 4, 0xc4 },  { 0x81, 7, 0xcc },  { 0x81, 8, 0xc4 },
    { 0xc1, 13, 0xcc }, { 0xc1, 14, 0xc4 }, { 0xc1, 40, 0xc4 },
};

START_TEST(fifo_trigger_and_timeout_interrupts)
{
    out(FCR, triggers[_i].fcr);
    out(MCR, RTS);
    out(IER, 1);
    type("0123456789012345678901234567890123456789", triggers[_i].typed);
    ck_assert_uint_eq(board.edges, 1);
    ck_assert_uint_eq(in(IIR), triggers[_i].interrupt);
    for (unsigned i = 0; i < triggers[_i].typed; i++) {
        if (!(in(LSR)&1))
            loop_turn(board.loop, 1000);
        ck_assert_uint_eq(in(DATA), '0' + i % 10);
    }
    ck_assert(!board.level);
    ck_assert_uint_eq(board.edges, 1 + (triggers[_i].typed - 1) / 16);
}
END_TEST

START_TEST(piped_input_is_complete)
{
    const size_t total = 40000;
    uint8_t bytes[40000];

    host_fill(bytes, 0, total);
    ck_assert_int_eq(write(board.in.writer, bytes, total), total);
    close(board.in.writer);
    out(FCR, _i); /* FIFO disabled or enabled */
    out(MCR, RTS);
    for (size_t i = 0; i < total; i++) {
        while (!(in(LSR)&1))
            loop_turn(board.loop, 1000);
        ck_assert_uint_eq(in(DATA), host_byte(i));
    }
    ck_assert_uint_eq(in(LSR), 0x60); /* no overrun */
}
END_TEST

/* Pause, save and load. */

static void resume(void)
{
    board.may_repeat = true;
    board.uart->device.ops->resume(&board.uart->device);
    board.may_repeat = false;
}

/* Saves the port, and loads its state into that of a new machine. */
static void restore_into_new_machine(void)
{
    const struct irq_line irq = { board_irq, &board, 4 };
    struct state saved;

    saved_take(&saved, &board.uart->device);
    board.uart->device.ops->destroy(&board.uart->device);
    board.uart = uart16550_create("serial0", COM1, &irq, board.terminal);
    saved_restore(&saved, &board.uart->device);
    board.bus = (struct bus){ 0 };
    ck_assert_int_eq(bus_map(&board.bus, &board.uart->region), 0);
    board.level = false; /* the state of a new interrupt controller */
    board.edges = 0;
}

START_TEST(a_restored_port_continues)
{
    out(FCR, 0x81); /* an interrupt at 8 bytes */
    out(LCR, 0x80);
    out(DATA, 0x5a);
    out(IER, 0xa5);
    out(LCR, 0x1b);
    out(SCR, 0x77);
    out(IER, 0x0f);
    out(MCR, LOOPBACK | 1);
    out(MCR, RTS);
    type("received", 8);
    out(DATA, 'x');
    restore_into_new_machine();

    resume();
    ck_assert(board.level);
    ck_assert_uint_eq(board.edges, 1); /* raised in the new machine */
    ck_assert_uint_eq(in(IIR), 0xc4);
    for (const char *c = "received"; *c; c++)
        ck_assert_uint_eq(in(DATA), (unsigned)*c);
    ck_assert_uint_eq(in(IIR), 0xc2); /* for the transmission of 'x' */
    ck_assert_uint_eq(in(IIR), 0xc0);
    ck_assert_uint_eq(in(MSR)&0x0f, 0x09);
    ck_assert_uint_eq(in(LCR), 0x1b);
    ck_assert_uint_eq(in(MCR), RTS);
    ck_assert_uint_eq(in(SCR), 0x77);
    ck_assert_uint_eq(in(IER), 0x0f);
    out(LCR, 0x80);
    ck_assert_uint_eq(in(DATA), 0x5a);
    ck_assert_uint_eq(in(IER), 0xa5);
}
END_TEST

START_TEST(a_restored_port_requests_input)
{
    out(MCR, RTS);
    loop_turn(board.loop, 10);
    ck_assert_int_eq(write(board.in.writer, "typed", 5), 5);
    terminal_pause(board.terminal);
    loop_turn(board.loop, 10);
    restore_into_new_machine();
    resume();
    terminal_resume(board.terminal);
    ck_assert_uint_eq(in(DATA), 't');
    ck_assert(!board.level);
}
END_TEST

START_TEST(resume_repeats_the_interrupt)
{
    out(IER, 2);
    ck_assert_uint_eq(board.edges, 1);
    resume();
    ck_assert(board.level);
    ck_assert_uint_eq(board.edges, 2);
    ck_assert_uint_eq(in(IIR), 0x02);
    resume();
    ck_assert(!board.level);
    ck_assert_uint_eq(board.edges, 2);
}
END_TEST

static const struct {
    const char *field;
    uint8_t value;
    const char *why;
} damaged[] = {
    { "ier", 0x10, "a register has undefined bits set" },
    { "mcr", 0x20, "a register has undefined bits set" },
    { "modem_changes", 0x10, "a register has undefined bits set" },
    { "trigger", 0, "trigger: 0 bytes" },
    { "trigger", 17, "trigger: 17 bytes" },
    { "fifo_enabled", 0, "trigger: 8 bytes" },
    { "fifo_enabled", 2, "neither true nor false" },
    { "fifo", 17, "fifo: 17 bytes, at most 16" },
    { "fifo", 255, "fifo: 255 bytes, at most 16" },
};

START_TEST(damaged_state_is_refused)
{
    out(FCR, 0x81);
    out(MCR, RTS);
    type("12345678", 8);
    saved_check_refused(&board.uart->device, damaged[_i].field, damaged[_i].value, damaged[_i].why);
}
END_TEST

/* Two vCPUs access random registers during input; meant for the thread sanitizer. */
static void *vcpu(void *arg)
{
    uint32_t random = *(uint32_t *)arg;

    for (unsigned i = 0; i < 20000; i++) {
        random = random * 1664525 + 1013904223;
        if (random >> 31)
            bus_read(&board.bus, COM1 + (random >> 8 & 7), 1);
        else
            bus_write(&board.bus, COM1 + (random >> 8 & 7), 1, random >> 16);
    }
    return NULL;
}

static void *drain(void *arg)
{
    char bytes[4096];

    while (read(board.out.reader, bytes, sizeof(bytes)) > 0)
        ;
    return NULL;
}

START_TEST(vcpus_race)
{
    uint32_t seeds[] = { 1, 2 };
    pthread_t vcpus[2], reader;

    pthread_create(&reader, NULL, drain, NULL);
    for (unsigned i = 0; i < 2; i++)
        pthread_create(&vcpus[i], NULL, vcpu, &seeds[i]);
    for (unsigned i = 0; i < 100; i++)
        type("some input for them", 19);
    for (unsigned i = 0; i < 2; i++)
        pthread_join(vcpus[i], NULL);
    board.uart->device.ops->reset(&board.uart->device);
    ck_assert(!board.level);
    ck_assert_uint_eq(in(IIR), 1);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("uart16550");
    TCase *tcase = tcase_create("uart16550");

    tcase_add_checked_fixture(tcase, set_up, tear_down);
    tcase_add_loop_test(tcase, register_matrix, 0, ARRAY_SIZE(registers));
    tcase_add_test(tcase, divisor_has_registers_of_its_own);
    tcase_add_test(tcase, every_width_at_every_offset);
    tcase_add_test(tcase, linux_autoconfig_finds_a_16550a);
    tcase_add_test(tcase, reset_restores_the_power_on_state);
    tcase_add_test(tcase, written_bytes_are_sent);
    tcase_add_test(tcase, transmitter_interrupts_when_enabled_and_when_emptied);
    tcase_add_test(tcase, a_burst_raises_one_interrupt);
    tcase_add_test(tcase, interrupts_by_priority);
    tcase_add_loop_test(tcase, loopback_of_the_modem_lines, 0, ARRAY_SIZE(loopbacks));
    tcase_add_test(tcase, input_waits_until_the_guest_raises_rts);
    tcase_add_loop_test(tcase, fifo_trigger_and_timeout_interrupts, 0, ARRAY_SIZE(triggers));
    tcase_add_loop_test(tcase, piped_input_is_complete, 0, 2);
    tcase_add_test(tcase, a_restored_port_continues);
    tcase_add_test(tcase, a_restored_port_requests_input);
    tcase_add_test(tcase, resume_repeats_the_interrupt);
    tcase_add_loop_test(tcase, damaged_state_is_refused, 0, ARRAY_SIZE(damaged));
    tcase_add_test(tcase, vcpus_race);
    suite_add_tcase(suite, tcase);
    return unit_run(suite);
}
