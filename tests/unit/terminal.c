/* SPDX-License-Identifier: MIT */
#include "devices/console/terminal.h"

#include <dirent.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <termios.h>

#include "tests/unit/host.h"
#include "tests/unit/still_clock.h"
#include "tests/unit/unit.h"
#include "vmm/core/base.h"

/* A guest that accepts `room` bytes of input. */
struct guest {
    size_t room;
    size_t count;
    unsigned writable, resized, closed, quits;
    uint8_t bytes[256 * KIB];
};

static size_t guest_input(void *owner, const uint8_t *bytes, size_t count)
{
    struct guest *guest = owner;

    if (count > guest->room)
        count = guest->room;
    if (count > sizeof(guest->bytes) - guest->count)
        count = sizeof(guest->bytes) - guest->count;
    memcpy(guest->bytes + guest->count, bytes, count);
    guest->count += count;
    guest->room -= count;
    return count;
}

static void guest_writable(void *owner)
{
    ((struct guest *)owner)->writable++;
}

static void guest_resized(void *owner)
{
    ((struct guest *)owner)->resized++;
}

static void guest_closed(void *owner)
{
    ((struct guest *)owner)->closed++;
}

static void guest_quit(void *owner)
{
    ((struct guest *)owner)->quits++;
}

static struct guest guest;
static struct loop *loop;
static struct terminal *terminal;

static void start_with(struct terminal_config config)
{
    const struct terminal_client client = { .input = guest_input,
                                            .writable = guest_writable,
                                            .resized = guest_resized,
                                            .closed = guest_closed,
                                            .owner = &guest };

    config.quit = guest_quit;
    config.owner = &guest;
    memset(&guest, 0, sizeof(guest));
    guest.room = SIZE_MAX;
    loop = loop_create();
    ck_assert_int_eq(terminal_create(&terminal, &config, loop), 0);
    terminal_start(terminal);
    terminal_set_client(terminal, &client);
}

static void start_as(int input, int output, bool stream)
{
    start_with((struct terminal_config){ .input = input, .output = output, .stream = stream });
}

static void start(int input, int output)
{
    start_as(input, output, false);
}

/* Runs the loop on a thread. */
static void serve(void)
{
    ck_assert_int_eq(loop_start(loop, "loop"), 0);
}

static void finish(unsigned linger_ms)
{
    loop_join(loop);
    terminal_destroy(terminal, linger_ms);
    loop_destroy(loop);
}

/* Output. */

/* A vCPU that writes test data, in pieces of an odd size. */
struct vcpu {
    size_t count;
    bool done; /* atomic */
};

static void *vcpu_write(void *arg)
{
    struct vcpu *vcpu = arg;
    uint8_t bytes[1021];

    for (size_t at = 0, size; at < vcpu->count; at += size) {
        size = vcpu->count - at < sizeof(bytes) ? vcpu->count - at : sizeof(bytes);
        host_fill(bytes, at, size);
        terminal_write(terminal, bytes, size);
    }
    __atomic_store_n(&vcpu->done, true, __ATOMIC_SEQ_CST);
    return NULL;
}

static void check_slow_reader(int flags)
{
    struct vcpu vcpu = { .count = 2 * MIB };
    struct host_pipe pipe = host_pipe();
    pthread_t thread;

    ck_assert_int_eq(fcntl(pipe.writer, F_SETFL, flags), 0);
    start(-1, pipe.writer);
    serve();
    pthread_create(&thread, NULL, vcpu_write, &vcpu);
    ck_assert(host_expect(pipe.reader, vcpu.count, true));
    pthread_join(thread, NULL);
    finish(HOST_TIMEOUT_S * 1000);
}

START_TEST(slow_reader_loses_no_byte)
{
    check_slow_reader(0);
}
END_TEST

START_TEST(non_blocking_output_loses_no_byte)
{
    check_slow_reader(O_NONBLOCK);
}
END_TEST

/* What is above the limit counts as written: nobody waits for it. */
START_TEST(output_ends_at_its_limit)
{
    struct host_pipe pipe = host_pipe();
    char bytes[16] = "";

    start_with((struct terminal_config){ .input = -1, .output = pipe.writer, .max = 5 });
    ck_assert_uint_eq(terminal_try_write(terminal, "abc", 3), 3);
    ck_assert_uint_eq(terminal_try_write(terminal, "defg", 4), 4);
    terminal_write(terminal, "h", 1);
    finish(HOST_TIMEOUT_S * 1000);
    ck_assert_int_eq(read(pipe.reader, bytes, sizeof(bytes)), 5);
    ck_assert_str_eq(bytes, "abcde");
}
END_TEST

START_TEST(regular_file_output_is_complete_after_destroy)
{
    struct vcpu vcpu = { .count = MIB };
    int fd = memfd_create("output", MFD_CLOEXEC);

    start(-1, fd);
    serve();
    vcpu_write(&vcpu);
    finish(HOST_TIMEOUT_S * 1000);
    ck_assert_int_eq(lseek(fd, 0, SEEK_SET), 0);
    ck_assert(host_expect(fd, vcpu.count, false));
    ck_assert_int_eq(read(fd, &fd, 1), 0);
}
END_TEST

/* A descriptor that is closed and will not be reused soon. */
static int closed_fd_number(int fd)
{
    int high = fcntl(fd, F_DUPFD_CLOEXEC, 500);

    close(high);
    return high;
}

/* Kinds of output that drop all bytes. */
enum { SINK_NONE, SINK_CLOSED, SINK_NULL, SINK_FULL, SINK_NO_READER, SINK_COUNT };

static int open_sink(int kind)
{
    struct host_pipe pipe = host_pipe();

    switch (kind) {
    case SINK_NONE:
        return -1;
    case SINK_NULL:
        return open("/dev/null", O_WRONLY);
    case SINK_FULL:
        return open("/dev/full", O_WRONLY);
    case SINK_CLOSED:
        return closed_fd_number(pipe.writer);
    default:
        close(pipe.reader);
        return pipe.writer;
    }
}

START_TEST(unusable_output_is_logged_once_and_never_blocks)
{
    struct vcpu vcpu = { .count = MIB };
    int kind = _i, log = memfd_create("log", MFD_CLOEXEC);
    int stderr_before = dup(STDERR_FILENO);
    char text[256] = "";

    signal(SIGPIPE, SIG_IGN);
    ck_assert_int_eq(dup2(log, STDERR_FILENO), STDERR_FILENO);
    start(-1, open_sink(kind));
    serve();
    vcpu_write(&vcpu);
    finish(HOST_TIMEOUT_S * 1000);
    dup2(stderr_before, STDERR_FILENO);

    ck_assert_int_lt(pread(log, text, sizeof(text) - 1, 0), (ssize_t)sizeof(text) - 1);
    if (kind == SINK_FULL)
        ck_assert_str_eq(text, "minivmm: console output: No space left on device\n");
    else if (kind == SINK_NO_READER)
        ck_assert_str_eq(text, "minivmm: console output: Broken pipe\n");
    else
        ck_assert_str_eq(text, "");
}
END_TEST

START_TEST(lost_output_of_a_stream_is_reported)
{
    signal(SIGPIPE, SIG_IGN);
    start_as(-1, open_sink(_i), true);
    terminal_write(terminal, "x", 1);
    terminal_close(terminal, HOST_TIMEOUT_S * 1000);
    ck_assert_int_eq(terminal_lost_output(terminal), _i == SINK_FULL);
    finish(HOST_TIMEOUT_S * 1000);
}
END_TEST

static unsigned count_threads(void)
{
    unsigned count = 0;
    DIR *tasks = opendir("/proc/self/task");

    while (readdir(tasks))
        count++;
    closedir(tasks);
    return count;
}

/* The thread writes further output, in order. */
START_TEST(short_output_into_a_pipe_needs_no_thread)
{
    struct host_pipe pipe = host_pipe();
    struct iovec nothing = { 0 };
    unsigned threads = count_threads();
    char text[8] = "";

    if (pwritev2(pipe.writer, &nothing, 1, -1, RWF_NOWAIT) < 0)
        unit_skip("this kernel lacks RWF_NOWAIT for pipes");
    start(-1, pipe.writer);
    terminal_write(terminal, "a", 1);
    ck_assert_int_eq(read(pipe.reader, text, sizeof(text)), 1);
    ck_assert_uint_eq(count_threads(), threads);
    terminal_write(terminal, "b", 1);
    terminal_write(terminal, "c", 1);
    finish(HOST_TIMEOUT_S * 1000);
    ck_assert_int_eq(read(pipe.reader, text + 1, sizeof(text) - 1), 2);
    ck_assert_str_eq(text, "abc");
}
END_TEST

static bool is_full(int fd)
{
    return poll(&(struct pollfd){ .fd = fd, .events = POLLOUT }, 1, 0) == 0;
}

START_TEST(abandon_unblocks_a_vcpu)
{
    struct vcpu vcpu = { .count = MIB };
    struct host_pipe pipe = host_pipe();
    pthread_t thread;

    start(-1, pipe.writer);
    serve();
    pthread_create(&thread, NULL, vcpu_write, &vcpu);
    while (!is_full(pipe.writer))
        usleep(1000);
    usleep(100000);
    ck_assert(!__atomic_load_n(&vcpu.done, __ATOMIC_SEQ_CST));
    terminal_abandon(terminal);
    pthread_join(thread, NULL);
    finish(0);
}
END_TEST

/* Writes test data until pipe and ring are full and the thread is blocked. Returns the bytes. */
static size_t fill_up(int writer)
{
    uint8_t bytes[1000];
    size_t total = 0, now;
    unsigned full = 0; /* times in a row that both were full: the thread may be slow */

    while (full < 10) {
        host_fill(bytes, total, sizeof(bytes));
        now = terminal_try_write(terminal, bytes, sizeof(bytes));
        total += now;
        loop_turn(loop, 0);
        full = now == 0 && is_full(writer) ? full + 1 : 0;
        if (now < sizeof(bytes))
            usleep(20000);
    }
    return total;
}

START_TEST(destroy_does_not_wait_for_a_blocked_write)
{
    struct host_pipe pipe = host_pipe();
    static uint8_t bytes[128 * KIB];
    size_t total = 0;
    double begin;

    start(-1, pipe.writer);
    fill_up(pipe.writer);
    begin = host_seconds();
    finish(50);
    ck_assert_double_ge(host_seconds() - begin, 0.05);
    ck_assert_double_le(host_seconds() - begin, HOST_TIMEOUT_S);

    close(pipe.writer);
    for (ssize_t got; (got = read(pipe.reader, bytes, sizeof(bytes))) > 0;)
        total += (size_t)got; /* until the thread ends, and closes its duplicate */
    ck_assert_uint_le(total, 64 * KIB + 32 * KIB); /* the pipe, and the blocked write() */
}
END_TEST

START_TEST(try_write_queues_what_fits_and_reports_room)
{
    struct host_pipe pipe = host_pipe();
    size_t taken;

    start(-1, pipe.writer);
    taken = fill_up(pipe.writer);
    loop_turn(loop, 0);
    guest.writable = 0;
    ck_assert_uint_ge(taken, 64 * KIB);
    ck_assert_uint_le(taken, 64 * KIB + 64 * KIB);

    ck_assert(host_expect(pipe.reader, taken, false));
    loop_turn(loop, HOST_TIMEOUT_S * 1000);
    ck_assert_uint_eq(guest.writable, 1);
    finish(0);
}
END_TEST

/* Input. */

START_TEST(input_from_a_regular_file)
{
    static uint8_t bytes[100000];
    int fd = memfd_create("input", MFD_CLOEXEC);

    host_fill(bytes, 0, sizeof(bytes));
    ck_assert_int_eq(pwrite(fd, bytes, sizeof(bytes), 0), sizeof(bytes));
    start(fd, -1);
    ck_assert(host_turn_until(loop, &guest.count, sizeof(bytes)));
    ck_assert_mem_eq(guest.bytes, bytes, sizeof(bytes));
    ck_assert_uint_lt(host_turns(loop), 20);
    finish(0);
}
END_TEST

/* Kinds of input that are at the end, hung up or closed. */
enum {
    SOURCE_NONE,
    SOURCE_CLOSED,
    SOURCE_NULL,
    SOURCE_HUNG_UP,
    SOURCE_DIRECTORY,
    SOURCE_PTY_GONE,
    SOURCE_COUNT
};

static int open_source(int kind)
{
    struct host_pipe pipe = host_pipe();
    struct host_pty pty = host_pty();

    close(pipe.writer);
    close(pty.master);
    switch (kind) {
    case SOURCE_CLOSED:
        return closed_fd_number(pipe.reader);
    case SOURCE_NULL:
        return open("/dev/null", O_RDONLY);
    case SOURCE_HUNG_UP:
        return pipe.reader;
    case SOURCE_DIRECTORY:
        return open("/", O_RDONLY);
    case SOURCE_PTY_GONE:
        return pty.slave;
    default:
        return -1;
    }
}

START_TEST(input_without_data_causes_no_busy_loop)
{
    start(open_source(_i), -1);
    ck_assert_uint_lt(host_turns(loop), 20);
    ck_assert_uint_eq(guest.count, 0);
    finish(0);
}
END_TEST

START_TEST(input_waits_for_the_guest)
{
    struct host_pipe pipe = host_pipe();
    static uint8_t bytes[32 * KIB];

    host_fill(bytes, 0, sizeof(bytes));
    ck_assert_int_eq(write(pipe.writer, bytes, sizeof(bytes)), sizeof(bytes));
    close(pipe.writer);
    start(pipe.reader, -1);
    guest.room = 0;
    ck_assert_uint_lt(host_turns(loop), 20);

    while (guest.count < sizeof(bytes)) {
        size_t before = guest.count;

        guest.room = 1000;
        terminal_request_input(terminal);
        loop_turn(loop, HOST_TIMEOUT_S * 1000);
        ck_assert_uint_gt(guest.count, before);
    }
    ck_assert_mem_eq(guest.bytes, bytes, sizeof(bytes));
    finish(0);
}
END_TEST

/* Keys typed, bytes the guest gets, and calls of quit(). */
static const struct {
    const char *typed, *arrived;
    unsigned quits;
} keys[] = {
    { "hello\r\x03\x04\x1a\x1c\x7f", "hello\r\x03\x04\x1a\x1c\x7f", 0 },
    { "a\x01x", "a", 1 },
    { "\x01\x01.\x01"
      "a.",
      "\x01.\x01.", 0 },
    { "1\x01z2\x01"
      "c3",
      "123", 0 },
    { "x\x01", "x", 0 },
};

START_TEST(escape_key)
{
    struct host_pty pty = host_pty();

    start(pty.slave, -1);
    /* One key per read(). */
    for (const char *key = keys[_i].typed; *key; key++) {
        ck_assert_int_eq(write(pty.master, key, 1), 1);
        loop_turn(loop, HOST_TIMEOUT_S * 1000);
    }
    ck_assert_uint_eq(guest.count, strlen(keys[_i].arrived));
    ck_assert_mem_eq(guest.bytes, keys[_i].arrived, guest.count);
    ck_assert_uint_eq(guest.quits, keys[_i].quits);
    finish(0);
}
END_TEST

static const struct {
    const char *typed;
    bool passed; /* terminal_pass_interrupts() was called */
    unsigned quits;
} interrupts[] = {
    { "\x03x\x03", true, 0 },
    { "\x03\x03", true, 1 },
    { "x\x01x\x03", true, 0 },
    { "x\x03", false, 1 },
};

START_TEST(interrupts_in_a_row)
{
    const char *typed = interrupts[_i].typed;
    struct host_pty pty = host_pty();

    start_with((struct terminal_config){ .input = pty.slave, .output = -1, .interrupts = true });
    if (interrupts[_i].passed)
        terminal_pass_interrupts(terminal);
    still_clock_set_ms(10000);
    for (const char *key = typed; *key; key++) {
        ck_assert_int_eq(write(pty.master, key, 1), 1);
        loop_turn(loop, HOST_TIMEOUT_S * 1000);
    }
    still_clock_set_ms(0);
    ck_assert_uint_eq(guest.count, strlen(typed));
    ck_assert_mem_eq(guest.bytes, typed, guest.count);
    ck_assert_uint_eq(guest.quits, interrupts[_i].quits);
    finish(0);
}
END_TEST

START_TEST(interrupts_far_apart)
{
    struct host_pty pty = host_pty();

    start_with((struct terminal_config){ .input = pty.slave, .output = -1, .interrupts = true });
    terminal_pass_interrupts(terminal);
    for (unsigned i = 0; i < 2; i++) {
        still_clock_set_ms(10000 + 2001 * i);
        ck_assert_int_eq(write(pty.master, "\x03", 1), 1);
        loop_turn(loop, HOST_TIMEOUT_S * 1000);
    }
    still_clock_set_ms(0);
    ck_assert_uint_eq(guest.count, 2);
    ck_assert_uint_eq(guest.quits, 0);
    finish(0);
}
END_TEST

/* The terminal keeps its mode. */
START_TEST(a_stream_from_a_terminal)
{
    struct host_pty pty = host_pty();
    struct termios before, now;

    ck_assert_int_eq(tcgetattr(pty.slave, &before), 0);
    start_as(pty.slave, -1, true);
    ck_assert_int_eq(tcgetattr(pty.slave, &now), 0);
    ck_assert_uint_eq(now.c_lflag, before.c_lflag);
    ck_assert_int_eq(write(pty.master, "line\n\x04", 6), 6);
    ck_assert(host_turn_until(loop, &guest.count, 5));
    ck_assert_mem_eq(guest.bytes, "line\n", 5);
    for (unsigned i = 0; i < 10 * HOST_TIMEOUT_S && !guest.closed; i++)
        loop_turn(loop, 100);
    ck_assert_uint_eq(guest.closed, 1);
    finish(0);
}
END_TEST

START_TEST(escape_key_works_while_the_guest_reads_nothing)
{
    struct host_pty pty = host_pty();

    start(pty.slave, -1);
    guest.room = 0;
    for (const char *key = "anybody?\x01x"; *key; key++) {
        ck_assert_int_eq(write(pty.master, key, 1), 1);
        loop_turn(loop, 100);
    }
    ck_assert_uint_eq(guest.quits, 1);
    finish(0);
}
END_TEST

START_TEST(control_characters_from_a_pipe_reach_the_guest)
{
    struct host_pipe pipe = host_pipe();

    start(pipe.reader, -1);
    ck_assert_int_eq(write(pipe.writer, "\x01x\x01\x01\x03", 5), 5);
    ck_assert(host_turn_until(loop, &guest.count, 5));
    ck_assert_mem_eq(guest.bytes, "\x01x\x01\x01\x03", 5);
    ck_assert_uint_eq(guest.quits, 0);
    finish(0);
}
END_TEST

START_TEST(a_stream_typed_on_a_terminal_ends_with_ctrl_d)
{
    struct host_pty pty = host_pty();

    start_as(pty.slave, -1, true);
    ck_assert_int_eq(write(pty.master, "lime\x7f\x7fne\x01x\n\x04", 12), 12);
    ck_assert(host_turn_until(loop, &guest.count, 7));
    ck_assert_mem_eq(guest.bytes, "line\x01x\n", 7);
    ck_assert_uint_lt(host_turns(loop), 20);
    ck_assert_uint_eq(guest.closed, 1);
    ck_assert_uint_eq(guest.quits, 0);
    finish(0);
}
END_TEST

START_TEST(end_of_a_stream_is_reported_once)
{
    struct host_pipe in = host_pipe(), out = host_pipe();

    signal(SIGPIPE, SIG_IGN);
    start_as(in.reader, out.writer, true);
    guest.room = 2;
    ck_assert_int_eq(write(in.writer, "end", 3), 3);
    close(in.writer);
    host_turns(loop);
    ck_assert_uint_eq(guest.closed, 0); /* one byte is still pending */
    guest.room = 1;
    terminal_request_input(terminal);
    host_turns(loop);
    ck_assert_uint_eq(guest.closed, 1);
    close(out.reader);
    terminal_try_write(terminal, "!", 1);
    host_turns(loop);
    ck_assert_uint_eq(guest.closed, 1);
    finish(0);
}
END_TEST

/* Pause. */

START_TEST(input_is_delivered_after_resume)
{
    static uint8_t bytes[200 * KIB];
    int fd = memfd_create("input", MFD_CLOEXEC);

    host_fill(bytes, 0, sizeof(bytes));
    ck_assert_int_eq(pwrite(fd, bytes, sizeof(bytes), 0), sizeof(bytes));
    start_as(fd, -1, true);
    guest.room = 1000;
    ck_assert(host_turn_until(loop, &guest.count, 1000));
    terminal_pause(terminal);
    guest.room = SIZE_MAX;
    terminal_request_input(terminal);
    ck_assert_uint_lt(host_turns(loop), 20);
    ck_assert_uint_eq(guest.count, 1000);
    ck_assert_int_le(lseek(fd, 0, SEEK_CUR), 1000 + 64 * KIB); /* bounded read-ahead */
    terminal_resume(terminal);
    ck_assert(host_turn_until(loop, &guest.count, sizeof(bytes)));
    ck_assert_mem_eq(guest.bytes, bytes, sizeof(bytes));
    finish(0);
}
END_TEST

START_TEST(callbacks_are_made_once_after_resume)
{
    struct host_pipe in = host_pipe(), out = host_pipe();
    size_t taken;

    start_as(in.reader, out.writer, true);
    taken = fill_up(out.writer);
    loop_turn(loop, 0);
    guest.writable = 0;
    terminal_pause(terminal);
    ck_assert(host_expect(out.reader, taken, false));
    terminal_window_changed(terminal);
    terminal_continued(terminal);
    close(in.writer);
    host_turns(loop);
    ck_assert_uint_eq(guest.writable + guest.resized + guest.closed, 0);
    for (unsigned i = 0; i < 2; i++) { /* the second pause causes no calls */
        terminal_resume(terminal);
        ck_assert_uint_eq(guest.writable, 1);
        ck_assert_uint_eq(guest.resized, 1);
        ck_assert_uint_eq(guest.closed, 1);
        terminal_pause(terminal);
        host_turns(loop);
    }
    finish(0);
}
END_TEST

START_TEST(a_closed_output_is_reported_after_resume)
{
    struct host_pipe out = host_pipe();

    signal(SIGPIPE, SIG_IGN);
    start_as(-1, out.writer, true);
    terminal_pause(terminal);
    close(out.reader);
    terminal_try_write(terminal, "!", 1);
    host_turns(loop);
    ck_assert_uint_eq(guest.closed, 0);
    terminal_resume(terminal);
    ck_assert_uint_eq(guest.closed, 1);
    finish(0);
}
END_TEST

START_TEST(keys_end_a_paused_machine)
{
    struct host_pty pty = host_pty();

    start_with((struct terminal_config){ .input = pty.slave, .output = -1, .interrupts = _i });
    terminal_pause(terminal);
    for (const char *key = _i ? "ab\x03" : "ab\x01x"; *key; key++) {
        ck_assert_int_eq(write(pty.master, key, 1), 1);
        loop_turn(loop, 1000);
    }
    ck_assert_uint_eq(guest.quits, 1);
    ck_assert_uint_eq(guest.count, 0);
    terminal_resume(terminal);
    ck_assert_mem_eq(guest.bytes, "ab", 2);
    finish(0);
}
END_TEST

START_TEST(pause_unblocks_a_vcpu)
{
    struct host_pipe out = host_pipe();
    struct vcpu vcpu = { .count = 1000 };
    pthread_t thread;
    size_t taken;

    start(-1, out.writer);
    taken = fill_up(out.writer);
    pthread_create(&thread, NULL, vcpu_write, &vcpu);
    usleep(100000);
    ck_assert(!__atomic_load_n(&vcpu.done, __ATOMIC_SEQ_CST));
    terminal_pause(terminal);
    pthread_join(thread, NULL);
    terminal_resume(terminal);
    ck_assert_uint_eq(terminal_try_write(terminal, "!", 1),
                      0); /* the extra room is only for the pause */
    ck_assert(host_expect(out.reader, taken, false));
    ck_assert(host_expect(out.reader, vcpu.count, false));
    ck_assert_uint_eq(terminal_try_write(terminal, "!", 1), 1);
    finish(0);
}
END_TEST

START_TEST(output_is_written_while_paused)
{
    struct host_pipe out = host_pipe();
    uint8_t bytes[10000];

    host_fill(bytes, 0, sizeof(bytes));
    start(-1, out.writer);
    terminal_write(terminal, bytes, sizeof(bytes));
    terminal_pause(terminal);
    loop_turn(loop, 100); /* starts the writer's thread, unless the pipe took all at once */
    ck_assert(host_expect(out.reader, sizeof(bytes), false));
    finish(0);
}
END_TEST

START_TEST(help_has_carriage_returns)
{
    struct host_pty pty = host_pty();
    char text[1024] = "";
    ssize_t count;

    start(pty.slave, pty.slave);
    ck_assert_int_eq(write(pty.master, "\x01h", 2), 2);
    loop_turn(loop, HOST_TIMEOUT_S * 1000);
    finish(HOST_TIMEOUT_S * 1000);
    count = read(pty.master, text, sizeof(text) - 1);
    ck_assert_int_gt(count, 0);
    ck_assert_ptr_nonnull(strstr(text, "Ctrl-A x"));
    for (ssize_t i = 0; i < count; i++)
        ck_assert(text[i] != '\n' || (i > 0 && text[i - 1] == '\r'));
}
END_TEST

/* The terminal's mode. */

static bool is_raw(int fd)
{
    struct termios mode;

    ck_assert_int_eq(tcgetattr(fd, &mode), 0);
    return !(mode.c_lflag & (ICANON | ECHO | ISIG)) && !(mode.c_oflag & OPOST);
}

static struct termios mode_of(int fd)
{
    struct termios mode = { 0 };

    ck_assert_int_eq(tcgetattr(fd, &mode), 0);
    return mode;
}

static bool same_mode(int fd, const struct termios *before)
{
    struct termios now = mode_of(fd);

    return now.c_iflag == before->c_iflag && now.c_oflag == before->c_oflag &&
           now.c_cflag == before->c_cflag && now.c_lflag == before->c_lflag &&
           memcmp(now.c_cc, before->c_cc, sizeof(now.c_cc)) == 0;
}

START_TEST(terminal_is_restored_by_destroy)
{
    struct host_pty pty = host_pty();
    struct termios before = mode_of(pty.slave);

    ck_assert(!is_raw(pty.slave));
    start(pty.slave, pty.slave);
    ck_assert(is_raw(pty.slave));
    /* The shell restores its mode while this process is stopped. */
    tcsetattr(pty.slave, TCSANOW, &before);
    terminal_continued(terminal);
    ck_assert(is_raw(pty.slave));
    terminal_continued(terminal); /* this shell left the raw mode */
    finish(0);
    ck_assert(same_mode(pty.slave, &before));
}
END_TEST

static const int deadly[] = { SIGSEGV, SIGBUS, SIGABRT, SIGILL, SIGFPE, SIGQUIT, SIGSYS, SIGPWR };

START_TEST(terminal_is_not_left_raw_after_a_crash)
{
    const struct rlimit no_core = { 0, 0 };
    struct host_pty pty = host_pty();
    struct termios before = mode_of(pty.slave);
    pid_t child = fork();
    int status;

    if (child == 0) {
        setrlimit(RLIMIT_CORE, &no_core);
        signal(deadly[_i], SIG_DFL);
        start(pty.slave, pty.slave);
        if (is_raw(pty.slave))
            raise(deadly[_i]);
        _exit(1);
    }
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert(WIFSIGNALED(status));
    ck_assert_int_eq(WTERMSIG(status), deadly[_i]);
    ck_assert(same_mode(pty.slave, &before));
}
END_TEST

/*
 * A process that starts in the background, and is then put into the foreground. `told`: by a shell
 * that sends SIGCONT also to a job that was not stopped.
 */
static void background_job(int slave, int go, bool told)
{
    struct termios before = mode_of(slave);
    double end = host_seconds() + HOST_TIMEOUT_S;
    char byte;

    setpgid(0, 0);
    start(slave, slave);
    if (!same_mode(slave, &before) || host_turns(loop) > 20)
        _exit(1);
    if (write(go, "", 1) != 1 || read(go, &byte, 1) != 1)
        _exit(2);
    if (told)
        terminal_continued(terminal);
    while (!told && !is_raw(slave) && host_seconds() < end)
        loop_turn(loop, 100);
    if (!is_raw(slave) || guest.resized != 1)
        _exit(3);
    finish(0);
    _exit(same_mode(slave, &before) ? 0 : 4);
}

static int job_control_shell(struct host_pty pty, bool tells)
{
    int status = -1, go[2];
    char byte;
    pid_t job;

    setsid();
    signal(SIGTTOU, SIG_IGN);
    if (ioctl(pty.slave, TIOCSCTTY, 0) < 0 || socketpair(AF_UNIX, SOCK_STREAM, 0, go) < 0)
        return 10;
    job = fork();
    if (job == 0)
        background_job(pty.slave, go[1], tells);
    close(go[1]);
    if (write(pty.master, "for the shell", 13) != 13 || read(go[0], &byte, 1) != 1)
        kill(job, SIGKILL);
    tcsetpgrp(pty.slave, job);
    if (write(go[0], "", 1) != 1)
        return 11;
    waitpid(job, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 12;
}

START_TEST(mode_is_not_changed_in_the_background)
{
    struct host_pty pty = host_pty();
    pid_t shell = fork();
    int status;

    if (shell == 0)
        _exit(job_control_shell(pty, _i));
    ck_assert_int_eq(waitpid(shell, &status, 0), shell);
    ck_assert_int_eq(status, 0);
}
END_TEST

START_TEST(size_is_that_of_the_terminal)
{
    const struct winsize size = { .ws_col = 132, .ws_row = 43 };
    struct host_pty pty = host_pty();
    struct host_pipe pipe = host_pipe();
    uint16_t columns = 1, rows = 1;

    start(pipe.reader, pipe.writer);
    ck_assert(!terminal_size(terminal, &columns, &rows));
    ck_assert_uint_eq(columns, 1);
    finish(0);

    start(pipe.reader, pty.slave);
    ck_assert(!terminal_size(terminal, &columns, &rows)); /* a terminal of size 0 x 0 */
    ck_assert_int_eq(ioctl(pty.slave, TIOCSWINSZ, &size), 0);
    ck_assert(terminal_size(terminal, &columns, &rows));
    ck_assert_uint_eq(columns, 132);
    ck_assert_uint_eq(rows, 43);
    terminal_window_changed(terminal);
    ck_assert_uint_eq(guest.resized, 1);
    finish(0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("terminal");
    TCase *output = tcase_create("output"), *input = tcase_create("input");
    TCase *pause = tcase_create("pause"), *mode = tcase_create("mode");

    tcase_set_timeout(output, 30);
    tcase_add_test(output, slow_reader_loses_no_byte);
    tcase_add_test(output, non_blocking_output_loses_no_byte);
    tcase_add_test(output, output_ends_at_its_limit);
    tcase_add_test(output, regular_file_output_is_complete_after_destroy);
    tcase_add_loop_test(output, unusable_output_is_logged_once_and_never_blocks, 0, SINK_COUNT);
    tcase_add_loop_test(output, lost_output_of_a_stream_is_reported, 0, SINK_COUNT);
    tcase_add_test(output, short_output_into_a_pipe_needs_no_thread);
    tcase_add_test(output, abandon_unblocks_a_vcpu);
    tcase_add_test(output, destroy_does_not_wait_for_a_blocked_write);
    tcase_add_test(output, try_write_queues_what_fits_and_reports_room);
    suite_add_tcase(suite, output);

    tcase_add_test(input, input_from_a_regular_file);
    tcase_add_loop_test(input, input_without_data_causes_no_busy_loop, 0, SOURCE_COUNT);
    tcase_add_test(input, input_waits_for_the_guest);
    tcase_add_loop_test(input, escape_key, 0, ARRAY_SIZE(keys));
    tcase_add_loop_test(input, interrupts_in_a_row, 0, ARRAY_SIZE(interrupts));
    tcase_add_test(input, interrupts_far_apart);
    tcase_add_test(input, a_stream_from_a_terminal);
    tcase_add_test(input, escape_key_works_while_the_guest_reads_nothing);
    tcase_add_test(input, control_characters_from_a_pipe_reach_the_guest);
    tcase_add_test(input, a_stream_typed_on_a_terminal_ends_with_ctrl_d);
    tcase_add_test(input, end_of_a_stream_is_reported_once);
    tcase_add_test(input, help_has_carriage_returns);
    suite_add_tcase(suite, input);

    tcase_add_test(pause, input_is_delivered_after_resume);
    tcase_add_test(pause, callbacks_are_made_once_after_resume);
    tcase_add_test(pause, a_closed_output_is_reported_after_resume);
    tcase_add_loop_test(pause, keys_end_a_paused_machine, 0, 2);
    tcase_add_test(pause, pause_unblocks_a_vcpu);
    tcase_add_test(pause, output_is_written_while_paused);
    suite_add_tcase(suite, pause);

    tcase_set_timeout(mode, HOST_TIMEOUT_S);
    tcase_add_test(mode, terminal_is_restored_by_destroy);
    tcase_add_loop_test(mode, terminal_is_not_left_raw_after_a_crash, 0, ARRAY_SIZE(deadly));
    tcase_add_loop_test(mode, mode_is_not_changed_in_the_background, 0, 2);
    tcase_add_test(mode, size_is_that_of_the_terminal);
    suite_add_tcase(suite, mode);
    return unit_run(suite);
}
