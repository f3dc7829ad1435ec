/* SPDX-License-Identifier: MIT */
#include "devices/console/terminal.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include "devices/console/writer.h"
#include "vmm/core/alarm.h"
#include "vmm/core/base.h"
#include "vmm/core/clock.h"
#include "vmm/core/log.h"

#define TERMINAL_PENDING    (64 * KIB)
#define TERMINAL_ESCAPE     0x01 /* Ctrl-A */
#define TERMINAL_INTERRUPT  0x03 /* Ctrl-C */
#define DOUBLE_INTERRUPT_MS 2000 /* between two Ctrl-C that end the machine, at most */
#define FOREGROUND_MS       500  /* how often a job in the background looks where it is */

static const char terminal_help[] = "\r\n"
                                    "Ctrl-A x   end the machine\r\n"
                                    "Ctrl-A a   send Ctrl-A to the guest\r\n"
                                    "Ctrl-A h   this help\r\n";

struct terminal {
    struct terminal_config config;
    struct loop *loop;
    struct terminal_client client;
    struct writer *writer;
    struct watch input;         /* fd -1: at its end, in the background, or no room */
    struct watch wake;          /* eventfd of terminal_request_input() */
    struct watch writable;      /* writer_event_fd() */
    struct watch foreground;    /* a timer, of a terminal only; set while in the background */
    bool is_tty;                /* the input is a terminal, with an escape key or Ctrl-C */
    bool ended;                 /* the input is at its end, or failed */
    bool background;            /* the terminal's foreground job is another */
    bool escaped;               /* the last key was the escape key */
    bool pass_interrupts;       /* terminal_pass_interrupts() was called */
    uint64_t last_interrupt_ms; /* time of the last key if it was Ctrl-C, else 0 */
    struct terminal_mode *saved_mode;
    bool closed_reported; /* client->closed() was called */
    bool paused;
    bool writable_due; /* when resumed, call client->writable() */
    bool resized_due;  /* when resumed, call client->resized() */
    uint8_t *pending;  /* input; [start, start + count) is not yet delivered to the client */
    size_t pending_start, pending_count;
};

/*
 * The terminal modes to restore. Global, because a signal handler needs them. `fd` is set last and
 * cleared first.
 */
static struct terminal_mode {
    int fd; /* atomic; 0 while free, else the descriptor + 1 */
    struct termios termios;
} terminal_modes[4];

/* Is another job in the foreground? The kernel would stop us for using its terminal. */
static bool terminal_in_background(int fd)
{
    pid_t foreground = tcgetpgrp(fd);

    return foreground >= 0 && foreground != getpgrp();
}

/* Async-signal-safe. */
static void terminal_mode_restore(struct terminal_mode *mode)
{
    int fd = __atomic_load_n(&mode->fd, __ATOMIC_ACQUIRE) - 1;

    if (fd >= 0 && !terminal_in_background(fd))
        tcsetattr(fd, TCSANOW, &mode->termios);
}

void terminal_restore_all(void)
{
    for (unsigned i = 0; i < ARRAY_SIZE(terminal_modes); i++)
        terminal_mode_restore(&terminal_modes[i]);
}

/* SA_RESETHAND has restored the default action, so that raise() ends the process. */
static void terminal_deadly_signal(int signal)
{
    terminal_restore_all();
    raise(signal);
}

static void terminal_catch_deadly_signals(void)
{
    const int deadly[] = { SIGSEGV, SIGBUS,  SIGILL,  SIGFPE, SIGABRT, SIGSYS,
                           SIGTRAP, SIGQUIT, SIGXCPU, SIGPWR, SIGALRM, SIGVTALRM };
    struct sigaction restore = { .sa_handler = terminal_deadly_signal, .sa_flags = SA_RESETHAND };
    struct sigaction before;

    sigemptyset(&restore.sa_mask);
    for (unsigned i = 0; i < ARRAY_SIZE(deadly); i++)
        if (sigaction(deadly[i], NULL, &before) == 0 && before.sa_handler != SIG_IGN &&
            !(before.sa_flags & SA_RESETHAND)) /* the machine's own, but not a sanitizer's */
            sigaction(deadly[i], &restore, NULL);
}

/* Saves the current mode of `fd`. NULL: failed, see errno. */
static struct terminal_mode *terminal_mode_save(int fd)
{
    for (unsigned i = 0; i < ARRAY_SIZE(terminal_modes); i++) {
        struct terminal_mode *mode = &terminal_modes[i];

        if (__atomic_load_n(&mode->fd, __ATOMIC_RELAXED) != 0)
            continue;
        if (tcgetattr(fd, &mode->termios) < 0)
            return NULL;
        __atomic_store_n(&mode->fd, fd + 1, __ATOMIC_RELEASE);
        terminal_catch_deadly_signals();
        return mode;
    }
    errno = EMFILE;
    return NULL;
}

static void terminal_mode_release(struct terminal_mode *mode)
{
    terminal_mode_restore(mode);
    __atomic_store_n(&mode->fd, 0, __ATOMIC_RELEASE);
}

/* Nobody tells a process that fg has put it into the foreground, unless it was stopped. */
static bool terminal_check_background(struct terminal *terminal)
{
    terminal->background = terminal->is_tty && terminal_in_background(terminal->config.input);
    if (terminal->background)
        alarm_set(&terminal->foreground, FOREGROUND_MS);
    return terminal->background;
}

/* The mode is saved only once: after SIGCONT it may be our raw mode, restored by the shell. */
static void terminal_set_raw(struct terminal *terminal)
{
    int fd = terminal->config.input;
    struct termios raw;

    if (!terminal->is_tty || terminal_check_background(terminal))
        return;
    if (!terminal->saved_mode)
        terminal->saved_mode = terminal_mode_save(fd);
    if (terminal->saved_mode) {
        raw = terminal->saved_mode->termios;
        cfmakeraw(&raw);
        if (tcsetattr(fd, TCSANOW, &raw) == 0)
            return;
    }
    log_error(errno, "console input: raw mode");
}

static void terminal_watch_input(struct terminal *terminal)
{
    bool held = terminal->config.held && terminal->config.stream;
    bool wanted = !held && !terminal->ended && !terminal->background &&
                  terminal->pending_count < TERMINAL_PENDING;

    /* poll() reports POLLHUP even if events is 0; only fd -1 prevents that. */
    terminal->input.fd = wanted ? terminal->config.input : -1;
}

static void terminal_report_closed(struct terminal *terminal)
{
    const struct terminal_client *client = &terminal->client;
    bool at_end = terminal->ended && !terminal->is_tty && terminal->pending_count == 0;

    if (terminal->paused || terminal->closed_reported || !client->closed ||
        !(at_end || writer_failed(terminal->writer)))
        return;
    terminal->closed_reported = true;
    client->closed(client->owner);
}

/* Delivers pending input to the client until it has no more room. */
static void terminal_feed(struct terminal *terminal)
{
    const struct terminal_client *client = &terminal->client;
    size_t taken = 1;

    while (!terminal->paused && !terminal->config.held && client->input && taken > 0 &&
           terminal->pending_count > 0) {
        taken = client->input(client->owner, terminal->pending + terminal->pending_start,
                              terminal->pending_count);
        terminal->pending_start += taken;
        terminal->pending_count -= taken;
    }
    terminal_watch_input(terminal);
    terminal_report_closed(terminal);
}

/* Handles the key after Ctrl-A. True: send a Ctrl-A to the guest. */
static bool terminal_command(struct terminal *terminal, uint8_t key)
{
    switch (key) {
    case 'x':
        terminal->config.quit(terminal->config.owner);
        return false;
    case 'h':
        writer_try_write(terminal->writer, terminal_help, strlen(terminal_help));
        return false;
    case 'a':
    case TERMINAL_ESCAPE:
        return true;
    default:
        return false;
    }
}

/* Ctrl-C ends the machine if the guest does not handle it, or if pressed twice. */
static void terminal_check_interrupts(struct terminal *terminal, const uint8_t *bytes, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        uint64_t before = terminal->last_interrupt_ms, now = clock_now_ms();
        bool again = before && now - before <= DOUBLE_INTERRUPT_MS;

        terminal->last_interrupt_ms = bytes[i] == TERMINAL_INTERRUPT ? now : 0;
        if (terminal->last_interrupt_ms && (again || !terminal->pass_interrupts))
            terminal->config.quit(terminal->config.owner);
    }
}

/* Handles and removes escape sequences. Returns the number of bytes that remain. */
static size_t terminal_filter(struct terminal *terminal, uint8_t *bytes, size_t count)
{
    size_t kept = 0;

    for (size_t i = 0; i < count; i++) {
        if (terminal->escaped) {
            terminal->escaped = false;
            if (terminal_command(terminal, bytes[i]))
                bytes[kept++] = TERMINAL_ESCAPE;
        } else if (bytes[i] == TERMINAL_ESCAPE) {
            terminal->escaped = true;
        } else {
            bytes[kept++] = bytes[i];
        }
    }
    return kept;
}

/* In the background, read() would raise SIGTTIN, or fail with EIO as after a hang-up. */
static void terminal_read(struct terminal *terminal)
{
    int fd = terminal->config.input;
    uint8_t *free = terminal->pending + terminal->pending_count;
    ssize_t count;

    memmove(terminal->pending, terminal->pending + terminal->pending_start,
            terminal->pending_count);
    terminal->pending_start = 0;

    if (terminal_check_background(terminal))
        return;

    count = read(fd, free, TERMINAL_PENDING - terminal->pending_count);
    if (count > 0 && terminal->is_tty && terminal->config.interrupts)
        terminal_check_interrupts(terminal, free, (size_t)count);
    else if (count > 0 && terminal->is_tty)
        count = (ssize_t)terminal_filter(terminal, free, (size_t)count);
    else if (count < 0 && errno == EIO && terminal->is_tty)
        terminal->background = true;
    else if (count == 0 || (count < 0 && errno != EINTR && errno != EAGAIN))
        terminal->ended = true;
    if (count > 0)
        terminal->pending_count += (size_t)count;
}

static void terminal_input_ready(struct watch *watch, short revents)
{
    struct terminal *terminal = container_of(watch, struct terminal, input);

    terminal_read(terminal);
    terminal_feed(terminal);
}

static void terminal_foreground_due(struct watch *watch, short revents)
{
    struct terminal *terminal = container_of(watch, struct terminal, foreground);

    if (alarm_expired(watch) && terminal->background && !terminal_check_background(terminal))
        terminal_continued(terminal);
}

static void terminal_wake_ready(struct watch *watch, short revents)
{
    uint64_t count;

    if (read(watch->fd, &count, sizeof(count)) == sizeof(count))
        terminal_feed(container_of(watch, struct terminal, wake));
}

static void terminal_report_writable(struct terminal *terminal)
{
    terminal->writable_due = terminal->paused;
    terminal_report_closed(terminal);
    if (!terminal->paused && terminal->client.writable)
        terminal->client.writable(terminal->client.owner);
}

static void terminal_writable_ready(struct watch *watch, short revents)
{
    struct terminal *terminal = container_of(watch, struct terminal, writable);
    uint64_t count;

    if (read(watch->fd, &count, sizeof(count)) != sizeof(count))
        return;
    writer_serve(terminal->writer);
    terminal_report_writable(terminal);
}

static void terminal_free(struct terminal *terminal, unsigned linger_ms)
{
    writer_destroy(terminal->writer, linger_ms);
    if (terminal->saved_mode)
        terminal_mode_release(terminal->saved_mode);
    if (terminal->wake.fd >= 0)
        close(terminal->wake.fd);
    free(terminal->pending);
    free(terminal);
}

int terminal_create(struct terminal **ret, const struct terminal_config *config, struct loop *loop)
{
    struct terminal *terminal = calloc(1, sizeof(*terminal));
    int error;

    if (!terminal)
        return log_error(ENOMEM, "console");
    error = writer_create(&terminal->writer, config->output, config->stream);
    if (error < 0) {
        free(terminal);
        return log_error(-error, "console output");
    }
    if (config->max)
        writer_set_max(terminal->writer, config->max);
    terminal->pending = malloc(TERMINAL_PENDING);
    terminal->wake.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (!terminal->pending || terminal->wake.fd < 0) {
        error = log_error(errno, "console");
        terminal_free(terminal, 0);
        return error;
    }

    terminal->config = *config;
    terminal->loop = loop;
    terminal->is_tty = !config->stream && isatty(config->input);
    if (terminal->is_tty &&
        (error = alarm_open(&terminal->foreground, loop, terminal_foreground_due))) {
        terminal_free(terminal, 0);
        return error;
    }
    terminal->input = (struct watch){ .events = POLLIN, .ready = terminal_input_ready };
    terminal->wake.events = POLLIN;
    terminal->wake.ready = terminal_wake_ready;
    terminal->writable = (struct watch){ .fd = writer_event_fd(terminal->writer),
                                         .events = POLLIN,
                                         .ready = terminal_writable_ready };
    terminal_watch_input(terminal);
    loop_add(loop, &terminal->input);
    loop_add(loop, &terminal->wake);
    loop_add(loop, &terminal->writable);
    *ret = terminal;
    return 0;
}

void terminal_start(struct terminal *terminal)
{
    terminal_set_raw(terminal);
    terminal_watch_input(terminal);
}

void terminal_close(struct terminal *terminal, unsigned linger_ms)
{
    if (terminal)
        writer_close(terminal->writer, linger_ms);
}

void terminal_count(const struct terminal *terminal, uint64_t *ret_bytes, uint64_t *ret_writes)
{
    writer_count(terminal->writer, ret_bytes, ret_writes);
}

void terminal_destroy(struct terminal *terminal, unsigned linger_ms)
{
    if (!terminal)
        return;
    loop_remove(terminal->loop, &terminal->input);
    loop_remove(terminal->loop, &terminal->wake);
    loop_remove(terminal->loop, &terminal->writable);
    alarm_close(&terminal->foreground, terminal->loop);
    terminal_free(terminal, linger_ms);
}

void terminal_set_client(struct terminal *terminal, const struct terminal_client *client)
{
    terminal->client = client ? *client : (struct terminal_client){ 0 };
    terminal->closed_reported = false;
    terminal_request_input(terminal);
}

/* Other threads leave it to the loop: see terminal_writable_ready(). */
static void terminal_serve(struct terminal *terminal)
{
    if (loop_is_current(terminal->loop))
        writer_serve(terminal->writer);
}

void terminal_write(struct terminal *terminal, const void *bytes, size_t count)
{
    writer_write(terminal->writer, bytes, count);
    terminal_serve(terminal);
}

size_t terminal_try_write(struct terminal *terminal, const void *bytes, size_t count)
{
    size_t taken = writer_try_write(terminal->writer, bytes, count);

    terminal_serve(terminal);
    return taken;
}

size_t terminal_queued(struct terminal *terminal)
{
    return writer_queued(terminal->writer);
}

void terminal_end_output(struct terminal *terminal)
{
    writer_end(terminal->writer, terminal->config.output == terminal->config.input);
}

void terminal_abandon(struct terminal *terminal)
{
    writer_abandon(terminal->writer);
}

void terminal_request_input(struct terminal *terminal)
{
    uint64_t one = 1;

    if (write(terminal->wake.fd, &one, sizeof(one)) < 0)
        return; /* full: signalled already */
}

bool terminal_lost_output(struct terminal *terminal)
{
    int error = writer_failed(terminal->writer);

    return terminal->config.stream && error && error != EPIPE;
}

bool terminal_size(struct terminal *terminal, uint16_t *ret_columns, uint16_t *ret_rows)
{
    const int fds[] = { terminal->config.output, terminal->config.input };
    struct winsize size;

    for (unsigned i = 0; i < ARRAY_SIZE(fds); i++)
        if (ioctl(fds[i], TIOCGWINSZ, &size) == 0 && size.ws_col > 0 && size.ws_row > 0) {
            *ret_columns = size.ws_col;
            *ret_rows = size.ws_row;
            return true;
        }
    return false;
}

void terminal_pass_interrupts(struct terminal *terminal)
{
    terminal->pass_interrupts = true;
}

void terminal_window_changed(struct terminal *terminal)
{
    terminal->resized_due = terminal->paused;
    if (!terminal->paused && terminal->client.resized)
        terminal->client.resized(terminal->client.owner);
}

void terminal_continued(struct terminal *terminal)
{
    terminal_start(terminal);
    terminal_window_changed(terminal);
}

void terminal_release(struct terminal *terminal)
{
    terminal->config.held = false;
    terminal_feed(terminal);
}

void terminal_pause(struct terminal *terminal)
{
    terminal->paused = true;
    writer_pause(terminal->writer);
}

void terminal_resume(struct terminal *terminal)
{
    terminal->paused = false;
    writer_resume(terminal->writer);
    if (terminal->resized_due)
        terminal_window_changed(terminal);
    if (terminal->writable_due)
        terminal_report_writable(terminal);
    terminal_feed(terminal);
}
