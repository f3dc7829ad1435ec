/* SPDX-License-Identifier: MIT */

/* What a guest says to the supervisor of `minivmm run`: as lines of control, as its kernel's log.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/run/agent.h"
#include "vmm/run/kernel_log.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(const char *line)
{
    struct control_message message;

    if (strlen(line) >= CONTROL_LINE)
        abort();
    if (!control_parse(&message, line))
        return;
    if (message.number < 0 || message.number > 255 || message.error < 0 || message.error > 4095 ||
        message.text < line || message.text > line + strlen(line))
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *bytes = (const char *)data, *text;
    struct control_line line = { .used = 0 };
    struct kernel_log log = { .count = 0 };

    kernel_log_add(&log, bytes, size);
    if (*log.panic && !log.panicked)
        abort();
    while (size > 0) {
        size_t taken = control_take(&line, bytes, size, &text);

        if (taken == 0 || taken > size)
            abort();
        if (text)
            check(text);
        bytes += taken;
        size -= taken;
    }
    return 0;
}
