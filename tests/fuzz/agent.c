/* SPDX-License-Identifier: MIT */

/* The guest's input to the supervisor of `minivmm run`: agent messages and the kernel's log. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/run/agent.h"
#include "vmm/run/kernel_log.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(const char *line)
{
    struct agent_message message;

    if (strlen(line) >= AGENT_LINE_SIZE)
        abort();
    if (!agent_parse(&message, line))
        return;
    if (message.number < 0 || message.number > 255 || message.error < 0 || message.error > 4095 ||
        message.text < line || message.text > line + strlen(line))
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *bytes = (const char *)data, *text;
    struct agent_line line = { .used = 0 };
    struct kernel_log log = { .count = 0 };

    kernel_log_add(&log, bytes, size);
    if (strlen(log.panic) >= sizeof(log.panic))
        abort();
    while (size > 0) {
        size_t taken = agent_take_line(&line, bytes, size, &text);

        if (taken == 0 || taken > size)
            abort();
        if (text)
            check(text);
        bytes += taken;
        size -= taken;
    }
    return 0;
}
