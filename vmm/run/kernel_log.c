/* SPDX-License-Identifier: MIT */
#include "vmm/run/kernel_log.h"

#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "vmm/core/log.h"

#define STDERR_TIMEOUT_MS 500
#define PANIC             "Kernel panic - not syncing: "
#define AGENT             "minivmm: "
#define PANIC_END         "---[ end Kernel panic" /* the message again, if there is no reset */

/* Drops the line if stderr stays blocked. Waits for it only if the line before was written. */
static void kernel_log_write(bool *stderr_blocked, const char *label, const char *text)
{
    struct pollfd out = { .fd = STDERR_FILENO, .events = POLLOUT };

    *stderr_blocked = poll(&out, 1, *stderr_blocked ? 0 : STDERR_TIMEOUT_MS) <= 0;
    if (!*stderr_blocked)
        dprintf(STDERR_FILENO, "%s%s%s", label, text, isatty(STDERR_FILENO) ? "\r\n" : "\n");
}

static void kernel_log_add_line(struct kernel_log *log, const char *line)
{
    char *kept = log->lines[log->count++ % KERNEL_LOG_LINES];
    const char *panic = strstr(line, PANIC), *agent = strstr(line, AGENT);

    snprintf(kept, sizeof(log->lines[0]), "%s", line);
    if (log->echo)
        kernel_log_write(&log->stderr_blocked, log->echo, line);
    if (panic && !strstr(line, PANIC_END))
        snprintf(log->panic, sizeof(log->panic), "%s", panic + strlen(PANIC));
    if (agent)
        snprintf(log->agent, sizeof(log->agent), "%s", agent + strlen(AGENT));
}

void kernel_log_add(struct kernel_log *log, const char *bytes, size_t count)
{
    const char *line;

    while (count > 0) {
        size_t taken = agent_take_line(&log->line, bytes, count, &line);

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
    bool stderr_blocked = false;
    unsigned first = log->count > KERNEL_LOG_LINES ? log->count - KERNEL_LOG_LINES : 0;

    if (log->echo || log->count == 0)
        return;
    log_warn("%sthe kernel's last lines:", label);
    for (unsigned i = first; i < log->count; i++)
        kernel_log_write(&stderr_blocked, label, log->lines[i % KERNEL_LOG_LINES]);
}
