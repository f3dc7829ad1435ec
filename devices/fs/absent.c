/* SPDX-License-Identifier: MIT */
#include "devices/fs/absent.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/inotify.h>
#include <unistd.h>

#include "vmm/core/alarm.h"
#include "vmm/core/base.h"
#include "vmm/core/log.h"
#include "vmm/core/open.h"

#define LINE        "names\n"
#define WATCHES_MAX 1024u /* of the user's limit, fs.inotify.max_user_watches */
#define PAUSE_MS    100u  /* between announcements: it takes the guest a while to look up again */

/* A lookup may be on its way while the guest drops its names, so these are dropped twice. */
#define ANNOUNCEMENTS 2u

static void absent_end_watches(struct absent *absent)
{
    int fd = absent->inotify.fd;

    absent->round += absent->round == UINT32_MAX ? 2 : 1;
    absent->count = 0;
    if (fd < 0)
        return;
    loop_remove(absent->loop, &absent->inotify);
    absent->inotify.fd = -1;
    loop_release(absent->loop); /* the kernel may need some time for it */
    close(fd);
    loop_acquire(absent->loop);
}

static void absent_send(struct absent *absent)
{
    absent->announce--;
    if (write(absent->port, LINE, sizeof(LINE) - 1) < 0 &&
        errno != EAGAIN) /* EAGAIN: more than enough is there */
        log_debug("the guest cannot be told of changed names: %s", strerror(errno));
    alarm_set(&absent->timer, PAUSE_MS);
}

void absent_announce(struct absent *absent)
{
    bool sending = absent->announce > 0;

    if (absent->port < 0)
        return;
    absent->announce = ANNOUNCEMENTS;
    if (!sending)
        alarm_set(&absent->timer, 1); /* several changes often come together */
}

static void absent_timer_ready(struct watch *watch, short revents)
{
    struct absent *absent = container_of(watch, struct absent, timer);

    if (alarm_expired(watch) && absent->announce > 0)
        absent_send(absent);
}

static void absent_changed(struct watch *watch, short revents)
{
    struct absent *absent = container_of(watch, struct absent, inotify);

    absent_end_watches(absent);
    absent_announce(absent);
}

static bool absent_open(struct absent *absent)
{
    if (absent->inotify.fd >= 0)
        return true;
    absent->inotify.fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    if (absent->inotify.fd < 0)
        return false;
    loop_add(absent->loop, &absent->inotify);
    return true;
}

bool absent_watch(struct absent *absent, int directory_fd, uint32_t *round)
{
    uint32_t current;
    int watch = -1, fd;

    if (absent->port < 0 || *round == absent->round)
        return false;
    if (absent->count == WATCHES_MAX) {
        absent_end_watches(absent);
        absent_announce(absent);
    }
    *round = current = absent->round;
    absent->count++;
    fd = absent_open(absent) ? absent->inotify.fd : -1;
    if (fd >= 0) {
        loop_release(absent->loop); /* the directory's filesystem is asked for permission */
        watch =
            inotify_add_watch(fd, fd_path(directory_fd).text, IN_CREATE | IN_MOVED_TO | IN_ONLYDIR);
        loop_acquire(absent->loop);
    }
    if (absent->round != current) /* all watches ended meanwhile */
        *round = 0;
    if (watch < 0)
        log_debug("names that appear on the host may stay unseen (inotify: %s)", strerror(errno));
    return watch >= 0;
}

int absent_init(struct absent *absent, struct loop *loop, int port)
{
    *absent = (struct absent){ .loop = loop, .port = port, .round = 1 };
    absent->inotify = (struct watch){ .fd = -1, .events = POLLIN, .ready = absent_changed };
    return port < 0 ? 0 : alarm_open(&absent->timer, loop, absent_timer_ready);
}

void absent_finish(struct absent *absent)
{
    if (absent->inotify.fd >= 0) {
        loop_remove(absent->loop, &absent->inotify);
        close(absent->inotify.fd);
    }
    alarm_close(&absent->timer, absent->loop);
}
