/* SPDX-License-Identifier: MIT */
#include "firmware/init/pump.h"

#include <errno.h>

#include "firmware/init/sys.h"

#define TURNS 64 /* of as much as a pipe holds: writers may go on for ever */

void pump_init(struct pump *pump, int from, int to)
{
    pump->from = from;
    pump->to = to;
    pump->ended = false;
    pump->start = pump->end = 0;
}

void pump_close(struct pump *pump)
{
    if (pump->from >= 0)
        sys_close(pump->from);
    if (pump->to >= 0)
        sys_close(pump->to);
    pump->from = pump->to = -1;
}

/* Polls the input only when the buffer is empty: POLLHUP would otherwise be reported in a loop. */
void pump_prepare(const struct pump *pump, struct pollfd set[2])
{
    bool empty = pump->start == pump->end;

    set[0] = (struct pollfd){ .fd = empty ? pump->from : -1, .events = POLLIN };
    set[1] = (struct pollfd){ .fd = pump->to, .events = empty ? 0 : POLLOUT };
}

static void pump_fill(struct pump *pump)
{
    while (!pump->ended && pump->end < sizeof(pump->bytes)) {
        long n = sys_read(pump->from, pump->bytes + pump->end, sizeof(pump->bytes) - pump->end);

        if (n == 0) /* a port may return 0 just before its last bytes arrive: ask twice */
            n = sys_read(pump->from, pump->bytes + pump->end, sizeof(pump->bytes) - pump->end);
        if (n == -EAGAIN)
            return;
        if (n <= 0)
            pump->ended = true;
        else
            pump->end += (size_t)n;
    }
}

/* False: the output has no reader any more. */
static bool pump_drain(struct pump *pump)
{
    while (pump->start < pump->end) {
        long n = sys_write(pump->to, pump->bytes + pump->start, pump->end - pump->start);

        if (n == -EAGAIN)
            return true;
        if (n < 0)
            return false;
        pump->start += (size_t)n;
    }
    pump->start = pump->end = 0;
    return true;
}

void pump_set_aside(struct pump *pump)
{
    for (unsigned turn = 0; turn < TURNS && pump->to >= 0; turn++) {
        struct pollfd set = { .fd = pump->to, .events = POLLOUT };

        pump_fill(pump);
        if (pump->start == pump->end || !pump_drain(pump))
            break;
        if (pump->start < pump->end)
            sys_poll(&set, 1, NULL);
    }
    if (pump->to >= 0 && !pump->ended) {
        sys_close(pump->to);
        pump->to = sys_open("/dev/null", O_WRONLY);
    }
    if (pump->to < 0 || pump->ended)
        pump_close(pump);
}

void pump_run(struct pump *pump, const struct pollfd set[2])
{
    if (pump->to < 0)
        return;
    if (set[0].revents)
        pump_fill(pump);
    if (set[1].revents & (POLLERR | POLLHUP) || !pump_drain(pump) ||
        (pump->ended && pump->start == pump->end))
        pump_close(pump);
}
