/* SPDX-License-Identifier: MIT */
#include "vmm/run/warm_start.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "devices/console/terminal.h"
#include "settings.h"
#include "vmm/board/consoles.h"
#include "vmm/cli/status.h"
#include "vmm/config/config.h"
#include "vmm/core/base.h"
#include "vmm/core/cleanup.h"
#include "vmm/core/log.h"
#include "vmm/core/page_map.h"
#include "vmm/machine/machine.h"

#define KEY_SIZE 8192
#define JOB_MAX  (96 * KIB) /* what surely fits into the port's socket */
#define PAUSE_MS 10000

struct key {
    char text[KEY_SIZE];
    size_t used;
};

static void __attribute__((format(printf, 2, 3))) key_add(struct key *key, const char *fmt, ...)
{
    va_list args;
    int size;

    va_start(args, fmt);
    size = vsnprintf(key->text + key->used, sizeof(key->text) - key->used, fmt, args);
    va_end(args);
    key->used += size > 0 ? (size_t)size : 0;
    if (key->used >= sizeof(key->text))
        key->used = sizeof(key->text) - 1; /* cut off: warm_key() refuses it */
}

/* Which file it is, and whether it has changed. */
static void key_add_file(struct key *key, const char *name, const char *path)
{
    struct stat st = { .st_ino = 0 };

    if (stat(path, &st) < 0)
        log_debug("%s: %s", path, strerror(errno));
    key_add(key, "%s %s %llu:%llu %lld %lld.%09ld %lld.%09ld; ", name, path,
            (unsigned long long)st.st_dev, (unsigned long long)st.st_ino, (long long)st.st_size,
            (long long)st.st_mtim.tv_sec, st.st_mtim.tv_nsec, (long long)st.st_ctim.tv_sec,
            st.st_ctim.tv_nsec);
}

/* A host that has booted anew may have other CPUs, another kernel or other microcode. */
static void key_add_host(struct key *key)
{
    cleanup_close int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
    char id[64] = "";
    ssize_t size = fd < 0 ? 0 : read(fd, id, sizeof(id) - 1);

    id[size > 0 ? strcspn(id, "\n") : 0] = '\0';
    key_add(key, "host %s; ", id);
}

/* Why a machine cannot start from a snapshot, or several at once not from one; NULL: it can. */
static const char *warm_obstacle(const struct config *config)
{
    if (config->disks)
        return "--disk";
    if (config->nested)
        return "--cpus N,nested";
    for (const struct net_config *net = config->nets; net; net = net->next)
        if (net->kind == NET_TAP || net->user.fd >= 0)
            return "--net with a tap or a descriptor";
    return NULL;
}

const char *warm_key(struct config *config, const char *shape, const char *modules)
{
    const char *obstacle = warm_obstacle(config);
    struct key key = { .used = 0 };
    char *copy;

    if (obstacle) {
        log_info("no warm machine: not with %s", obstacle);
        return NULL;
    }
    key_add_file(&key, "kernel", config->kernel);
    key_add(&key, "%s; cpus %u%s; memory %llu; balloon %d; shares ", config->cmdline, config->cpus,
            config->pmu ? " pmu" : "", (unsigned long long)config->memory, config->balloon);
    for (const struct share_config *share = config->shares; share; share = share->next)
        key_add(&key, "%s%s ", share->tag, share->directory.writable ? " rw" : "");
    key_add(&key, "; nics ");
    for (const struct net_config *net = config->nets; net; net = net->next)
        key_add(&key, "%02x%02x%02x%02x%02x%02x ", net->mac[0], net->mac[1], net->mac[2],
                net->mac[3], net->mac[4], net->mac[5]);
    key_add(&key, "; ports %s; ", shape);
    if (modules) {
        char list[PATH_MAX];

        snprintf(list, sizeof(list), "%s/modules.dep", modules);
        key_add_file(&key, "modules", list);
    }
    key_add_file(&key, "minivmm " MINIVMM_VERSION, "/proc/self/exe");
    key_add_host(&key);
    if (key.used == sizeof(key.text) - 1)
        return NULL;
    copy = arena_alloc(&config->arena, key.used + 1);
    return copy ? strcpy(copy, key.text) : NULL;
}

/* The configuration is this run's: the key says so. */
static bool warm_find(struct warm_start *w, const char *key, const char *name, uint64_t memory)
{
    char text[WARM_TEXT_MAX];

    if (warm_open(&w->snap, text, NULL, WARM_KEYED, name) < 0)
        return false;
    if (strcmp(text, key) != 0)
        return !log_refuse(ENOENT, "the warm machine %s is of another kind", name);
    return snapshot_check_memory(&w->snap, memory) == 0;
}

/* The page map is needed to find the pages that are to be saved. */
static bool warm_can_save(void)
{
    int fd = page_map_open();

    if (fd < 0)
        log_info("no warm machine: /proc/self/pagemap: %s", strerror(-fd));
    else
        close(fd);
    return fd >= 0;
}

static void warm_start_init(struct warm_start *w)
{
    *w = (struct warm_start){ .snap.directory = -1, .warm.keeper = -1, .job.limit = 2 * JOB_MAX };
}

void warm_choose(struct warm_start *w, const char *key, uint64_t memory, bool anew)
{
    char name[WARM_NAME_SIZE];

    warm_start_init(w);
    if (!key)
        return;
    warm_key_name(name, key);
    log_expect_errors(true); /* each of them is a reason to boot */
    if (!anew && warm_find(w, key, name, memory))
        w->mode = WARM_FORK;
    else if (warm_can_save() && warm_begin(&w->warm, WARM_KEYED, name, key, NULL) == 0)
        w->mode = WARM_MAKE;
    log_expect_errors(false);
}

int warm_name(struct warm_start *w, struct config *config, const char *name, const char *text,
              bool *kept)
{
    const char *obstacle = warm_obstacle(config);
    int error;

    warm_start_init(w);
    if (obstacle)
        return log_refuse(EINVAL, "a warm machine cannot be made with %s", obstacle);
    if (!warm_can_save())
        return log_refuse(ENOTSUP, "the host does not show which pages are to be saved");
    error = warm_begin(&w->warm, WARM_NAMED, name, text, config);
    if (error)
        return error;
    w->mode = WARM_NAME;
    w->kept = kept;
    config->saves = true;
    return 0;
}

void warm_take(struct warm_start *w, struct snapshot *snap)
{
    warm_start_init(w);
    w->snap = *snap;
    w->mode = WARM_FORK;
}

/* The agent reads it when it runs. */
static bool warm_send_job(struct warm_start *w)
{
    const uint8_t *at = w->job.data;
    size_t left = w->job.used;

    while (left > 0) {
        ssize_t done = write(w->port, at, left);

        if (done < 0 && errno == EINTR)
            continue;
        if (done <= 0)
            return !log_error(done < 0 ? errno : EPIPE, "send the agent its job");
        at += done;
        left -= (size_t)done;
    }
    return true;
}

int warm_prepare(struct warm_start *w, struct config *config, int port)
{
    bool named = w->mode == WARM_FORK && config->restored;

    w->port = port;
    if (named && (w->job.used > JOB_MAX || w->job.full))
        return log_refuse(E2BIG, "arguments and environment are too long for a warm machine");
    if (w->job.used > JOB_MAX || w->job.full) {
        log_info("no warm machine: arguments and environment are too long");
        warm_close(&w->warm);
        w->mode = WARM_OFF;
    }
    config->saves = w->mode == WARM_MAKE;
    config->restored = w->mode == WARM_FORK;
    return config->restored && !warm_send_job(w) ? -EPIPE : 0;
}

/* On the worker's thread. */
static void warm_save(void *owner)
{
    struct warm_start *w = owner;
    int error = snapshot_save(w->life->machine, &w->warm.files, w->why, sizeof(w->why));

    if (!error && (error = warm_commit(&w->warm, w->mode == WARM_NAME)))
        snprintf(w->why, sizeof(w->why), "%s", strerror(-error));
}

/* Kept or not, this machine goes on as the first. */
static void warm_go_on(struct warm_start *w)
{
    if (*w->why)
        log_info("the warm machine was not kept: %s", w->why);
    w->mode = WARM_OFF;
    warm_close(&w->warm); /* from here on a guest could write to the files */
    consoles_each(&w->life->machine->board, terminal_release);
    if (warm_send_job(w))
        lifecycle_resume(w->life);
    else
        lifecycle_stop(w->life, STATUS_FAILED);
}

/* Kept or not, this machine has done its work. */
static void warm_end(struct warm_start *w)
{
    *w->kept = !*w->why;
    if (*w->why)
        log_refuse(EIO, "the warm machine was not kept: %s", w->why);
    w->mode = WARM_OFF;
    warm_close(&w->warm);
    if (*w->why)
        lifecycle_stop(w->life, STATUS_FAILED);
    else
        lifecycle_leave(w->life);
}

static bool warm_makes(const struct warm_start *w)
{
    return w->mode == WARM_MAKE || w->mode == WARM_NAME;
}

void warm_asked(struct warm_start *w, struct lifecycle *life)
{
    if (!warm_makes(w) || w->asked)
        return;
    w->asked = true;
    w->life = life;
    lifecycle_pause(life, PAUSE_MS);
}

void warm_on_event(struct warm_start *w, enum life_event event, const char *name)
{
    if (!warm_makes(w) || !w->asked)
        return;
    if (event == LIFE_HAS_PAUSED && lifecycle_work(w->life, warm_save, w))
        return;
    if (event != LIFE_HAS_WORKED && !*w->why)
        snprintf(w->why, sizeof(w->why), "%s", name ? name : "it did not come to rest");
    if (w->mode == WARM_NAME)
        warm_end(w);
    else
        warm_go_on(w);
}

void warm_finish(struct warm_start *w)
{
    snapshot_close(&w->snap);
    buffer_finish(&w->job);
}
