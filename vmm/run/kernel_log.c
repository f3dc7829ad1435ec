/* SPDX-License-Identifier: MIT */
#include "vmm/run/kernel_log.h"

#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "vmm/core/log.h"

#define PATIENCE_MS 500
#define PANIC       "Kernel panic - not syncing: "

/* A reader who takes nothing loses what the kernel said, and stops nobody: he is waited for once.
 */
static void kernel_log_tell(bool *deaf, const char *label, const char *text)
{
    struct pollfd out = { .fd = STDERR_FILENO, .events = POLLOUT };

    *deaf = poll(&out, 1, *deaf ? 0 : PATIENCE_MS) <= 0;
    if (!*deaf)
        dprintf(STDERR_FILENO, "%s%s%s", label, text, isatty(STDERR_FILENO) ? "\r\n" : "\n");
}

static void kernel_log_add_line(struct kernel_log *log, const char *line)
{
    char *kept = log->lines[log->count++ % KERNEL_LOG_LINES];
    const char *panic = strstr(line, PANIC);

    snprintf(kept, sizeof(log->lines[0]), "%s", line);
    if (log->echo)
        kernel_log_tell(&log->deaf, log->echo, line);
    if (panic && !log->panicked) {
        log->panicked = true;
        snprintf(log->panic, sizeof(log->panic), "%s", panic + strlen(PANIC));
    }
}

void kernel_log_add(struct kernel_log *log, const char *bytes, size_t count)
{
    const char *line;

    while (count > 0) {
        size_t taken = control_take(&log->line, bytes, count, &line);

        if (line && *line)
            kernel_log_add_line(log, line);
        bytes += taken;
        count -= taken;
    }
}

bool kernel_log_oops(const struct kernel_log *log)
{
    return strstr(log->panic, "Fatal exception") != NULL;
}

void kernel_log_print(const struct kernel_log *log, const char *label)
{
    bool deaf = false;
    unsigned first = log->count > KERNEL_LOG_LINES ? log->count - KERNEL_LOG_LINES : 0;

    if (log->echo || log->count == 0)
        return;
    log_warn("%sthe kernel's last lines:", label);
    for (unsigned i = first; i < log->count; i++)
        kernel_log_tell(&deaf, label, log->lines[i % KERNEL_LOG_LINES]);
}
