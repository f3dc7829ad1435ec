/* SPDX-License-Identifier: MIT */
#include "vmm/log.h"

#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define LOG_GUEST_LINES 10
#define LOG_PATIENCE_MS 500 /* then a line that nobody takes is lost: we have a guest to run */

static enum log_level log_level = LOG_LEVEL_WARN;

void log_set_level(enum log_level level)
{
    log_level = level;
}

/* One write() a line, so that threads do not mix; \r because the terminal may be raw. */
static void log_line(const char *fmt, va_list args, int error)
{
    struct pollfd out = { .fd = STDERR_FILENO, .events = POLLOUT };
    char line[1024] = "minivmm: ";
    size_t size = sizeof(line) - 2; /* room for the line's end */
    size_t used = strlen(line);

    vsnprintf(line + used, size - used, fmt, args);
    used = strlen(line);
    if (error)
        snprintf(line + used, size - used, ": %s", strerror(error));
    for (char *c = line; *c; c++) /* names come from outside: one line stays one line */
        if ((unsigned char)*c < ' ' || *c == 0x7f)
            *c = '?';
    strcat(line, isatty(STDERR_FILENO) ? "\r\n" : "\n");
    if (poll(&out, 1, LOG_PATIENCE_MS) == 0 || write(STDERR_FILENO, line, strlen(line)) < 0)
        return; /* nobody left to tell */
}

void log_print(enum log_level level, const char *fmt, ...)
{
    va_list args;

    if (level > log_level)
        return;
    va_start(args, fmt);
    log_line(fmt, args, 0);
    va_end(args);
}

void log_guest(unsigned *told, const char *fmt, ...)
{
    char text[512];
    va_list args;
    unsigned before;

    if (__atomic_load_n(told, __ATOMIC_RELAXED) >= LOG_GUEST_LINES)
        return;
    before = __atomic_fetch_add(told, 1, __ATOMIC_RELAXED);
    if (before >= LOG_GUEST_LINES)
        return;
    va_start(args, fmt);
    vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    log_warn("%s%s", text, before + 1 == LOG_GUEST_LINES ? " (from now on untold)" : "");
}

int log_error(int error, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    log_line(fmt, args, error);
    va_end(args);
    return -error;
}

int log_refuse(int error, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    log_line(fmt, args, 0);
    va_end(args);
    return -error;
}
