/* SPDX-License-Identifier: MIT */
#include "vmm/core/alarm.h"

#include <errno.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "vmm/core/log.h"

int alarm_open(struct watch *alarm, struct loop *loop,
               void (*ready)(struct watch *watch, short revents))
{
    int fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);

    *alarm = (struct watch){ .fd = fd, .events = POLLIN, .ready = ready };
    if (fd < 0)
        return log_error(errno, "set up a timer");
    loop_add(loop, alarm);
    return 0;
}

void alarm_close(struct watch *alarm, struct loop *loop)
{
    if (!alarm->ready || alarm->fd < 0)
        return;
    loop_remove(loop, alarm);
    close(alarm->fd);
    alarm->fd = -1;
}

void alarm_set(struct watch *alarm, uint64_t ms)
{
    struct itimerspec spec = { .it_value = { .tv_sec = (time_t)(ms / 1000),
                                             .tv_nsec = (long)(ms % 1000) * 1000000 } };

    if (timerfd_settime(alarm->fd, 0, &spec, NULL) < 0)
        log_error(errno, "set a timer");
}

bool alarm_expired(struct watch *alarm)
{
    uint64_t count;

    return read(alarm->fd, &count, sizeof(count)) == sizeof(count);
}
