/* SPDX-License-Identifier: MIT */
#include "vmm/core/log.h"

#include <limits.h>
#include <poll.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define LOG_NAME             "minivmm: "
#define LOG_GUEST_LINES      10
#define LOG_WRITE_TIMEOUT_MS 500 /* then the line is dropped: the guest must run on */

static enum log_level log_level = LOG_LEVEL_WARN;
static bool log_errors_expected; /* atomic */
static char *log_reason;         /* atomic */
static bool log_reason_only;

void log_set_level(enum log_level level)
{
    log_level = level;
}

const char *log_level_name(void)
{
    static const char *const names[] = { "error", "warn", "info", "debug" };

    return names[log_level];
}

void log_expect_errors(bool on)
{
    __atomic_store_n(&log_errors_expected, on, __ATOMIC_RELAXED);
}

void log_keep_reason(char text[LOG_REASON_SIZE], bool print)
{
    log_reason = text;
    log_reason_only = text && !print;
}

/* If another thread is storing its message at the same time, this one is not stored. */
static void log_note_reason(const char *line)
{
    char *text = __atomic_exchange_n(&log_reason, NULL, __ATOMIC_ACQUIRE);
    size_t size = strnlen(line, LOG_REASON_SIZE - 1);

    if (!text)
        return;
    while (size > 0 && (line[size] & 0xc0) == 0x80) /* back to the start of a UTF-8 character */
        size--;
    snprintf(text, LOG_REASON_SIZE, "%.*s", (int)size, line);
    __atomic_store_n(&log_reason, text, __ATOMIC_RELEASE);
}

/* Names from outside may contain control characters; those above 0x7f have two bytes in UTF-8. */
static void log_replace_controls(char *line)
{
    for (unsigned char *c = (unsigned char *)line; *c; c++)
        if (c[0] == 0xc2 && c[1] >= 0x80 && c[1] < 0xa0)
            c[0] = c[1] = '?';
        else if (*c < ' ' || *c == 0x7f)
            *c = '?';
}

/* One write() per line, so that lines of threads do not mix; \r for a terminal in raw mode. */
static void log_line(bool failure, const char *fmt, va_list args, int error)
{
    struct pollfd out = { .fd = STDERR_FILENO, .events = POLLOUT };
    char line[PIPE_BUF] = LOG_NAME; /* written at once; a path may be nearly as long */
    size_t size = sizeof(line) - 2; /* room for "\r\n" */
    size_t used = strlen(line);
    bool expected = failure && __atomic_load_n(&log_errors_expected, __ATOMIC_RELAXED);

    if (expected && log_level < LOG_LEVEL_INFO)
        return;
    vsnprintf(line + used, size - used, fmt, args);
    used = strlen(line);
    if (error)
        snprintf(line + used, size - used, ": %s", strerror(error));
    log_replace_controls(line);
    if (failure && !expected)
        log_note_reason(line + strlen(LOG_NAME));
    if (failure && log_reason_only)
        return;
    strcat(line, isatty(STDERR_FILENO) ? "\r\n" : "\n");
    if (poll(&out, 1, LOG_WRITE_TIMEOUT_MS) == 0 || write(STDERR_FILENO, line, strlen(line)) < 0)
        return; /* nowhere to report this */
}

void log_print(enum log_level level, const char *fmt, ...)
{
    va_list args;

    if (level > log_level)
        return;
    va_start(args, fmt);
    log_line(false, fmt, args, 0);
    va_end(args);
}

void log_guest(unsigned *count, const char *fmt, ...)
{
    char text[512];
    va_list args;
    unsigned before;

    if (__atomic_load_n(count, __ATOMIC_RELAXED) >= LOG_GUEST_LINES)
        return;
    before = __atomic_fetch_add(count, 1, __ATOMIC_RELAXED);
    if (before >= LOG_GUEST_LINES)
        return;
    va_start(args, fmt);
    vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    log_warn("%s%s", text, before + 1 == LOG_GUEST_LINES ? " (further messages suppressed)" : "");
}

int log_error(int error, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    log_line(true, fmt, args, error);
    va_end(args);
    return -error;
}

int log_refuse(int error, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    log_line(true, fmt, args, 0);
    va_end(args);
    return -error;
}
