/* SPDX-License-Identifier: MIT */
#include "vmm/config/config_state.h"

#include <net/if.h>
#include <stdio.h>
#include <string.h>

#include "vmm/config/config.h"
#include "vmm/core/base.h"
#include "vmm/core/state.h"

#define MAX_TEXT  8192 /* bytes of a path or a command line, with the terminating 0 */
#define MAX_ITEMS 256  /* of a list: more than a machine has room for */

/* What the command line checks, as a saved state may be anybody's. */
static void config_limit(struct state *s, const char *name, uint64_t value, uint64_t min,
                         uint64_t max)
{
    if (s->loading && !s->error && (value < min || value > max))
        state_fail(s, "%s: %llu is not from %llu to %llu", name, (unsigned long long)value,
                   (unsigned long long)min, (unsigned long long)max);
}

static void config_size(struct state *s, const char *name, uint64_t *size, uint64_t min)
{
    state_u64(s, name, size);
    config_limit(s, name, *size, min, CONFIG_MAX_SIZE);
    if (s->loading && !s->error && *size % MIB)
        state_fail(s, "%s: %llu is not a multiple of 1M", name, (unsigned long long)*size);
}

/* A text, or NULL, which has no bytes. A relative path becomes absolute; none is empty. */
static void config_text(struct config *config, struct state *s, const char *name, const char **text,
                        bool path)
{
    const char *head = path && *text && **text != '/' ? config->directory : NULL;
    char bytes[MAX_TEXT];
    uint32_t length = 0;
    char *copy;

    if (!s->loading && *text) {
        int used =
            snprintf(bytes, sizeof(bytes), "%s%s%s", head ? head : "", head ? "/" : "", *text);

        length = (uint32_t)used + 1;
        if (length > sizeof(bytes))
            state_fail(s, "%s is too long", name);
    }
    if (s->error)
        return;
    state_data(s, name, bytes, &length, sizeof(bytes));
    if (!s->loading || s->error)
        return;
    *text = NULL;
    if (length == 0)
        return;
    copy = arena_alloc(&config->arena, length);
    if (!copy || memchr(bytes, '\0', length) != bytes + length - 1)
        state_fail(s, copy ? "%s is not a text" : "%s: out of memory", name);
    else if (path && length == 1)
        state_fail(s, "%s is empty", name);
    else
        *text = memcpy(copy, bytes, length);
}

/* A name from 1 to `max` bytes, or NULL. */
static void config_name(struct config *config, struct state *s, const char *name, const char **text,
                        size_t max)
{
    config_text(config, s, name, text, false);
    if (*text)
        config_limit(s, name, strlen(*text), 1, max);
}

/* A text in an array. */
static void config_array(struct state *s, const char *name, char *array, uint32_t size)
{
    uint32_t length = (uint32_t)strlen(array);

    state_data(s, name, array, &length, size - 1);
    if (s->loading && !s->error) {
        array[length] = '\0';
        if (strlen(array) != length)
            state_fail(s, "%s is not a text", name);
    }
}

/* An enum, below `end`, or an int. */
static unsigned config_choice(struct state *s, const char *name, unsigned value, unsigned end)
{
    uint32_t number = value;

    state_u32(s, name, &number);
    if (s->loading && !s->error && number >= end)
        state_fail(s, "%s: %u is unknown", name, number);
    return s->error ? value : number;
}

/* The items of a list: as many as there are, or as are loaded. */
#define CONFIG_LIST(s, name, list, add, state)                      \
    do {                                                            \
        __typeof__(list) item_ = (list);                            \
        uint32_t count_ = 0;                                        \
                                                                    \
        for (; item_; item_ = item_->next)                          \
            count_++;                                               \
        count_ = state_count((s), (name), count_, MAX_ITEMS);       \
        for (item_ = (list); count_ > 0 && !(s)->error; count_--) { \
            if ((s)->loading && !(item_ = (add)))                   \
                state_fail((s), "out of memory");                   \
            if (item_)                                              \
                state(config, item_, (s));                          \
            if (!(s)->loading)                                      \
                item_ = item_->next;                                \
        }                                                           \
    } while (0)

static void config_disk_state(struct config *config, struct disk_config *disk, struct state *s)
{
    struct block_options *image = &disk->image;
    uint32_t poll = (uint32_t)disk->poll_us;

    config_text(config, s, "path", &image->path, true);
    state_field(s, image, format_raw);
    state_field(s, image, read_only);
    state_field(s, image, direct);
    state_field(s, image, throw_away);
    config_size(s, "max", &image->max, 0);
    image->engine = config_choice(s, "engine", image->engine, BLOCK_ENGINE_THREAD + 1);
    state_u32(s, "poll_us", &poll);
    disk->poll_us = (int)poll;
    if (disk->poll_us != -1)
        config_limit(s, "poll_us", poll, 0, CONFIG_MAX_POLL);
    config_array(s, "serial", disk->serial, sizeof(disk->serial));
    if (s->loading && !s->error && !image->path)
        state_fail(s, "a disk without a file");
}

static struct slirp_forward *config_add_forward(struct config *config, struct slirp_options *user)
{
    struct slirp_forward *forward = arena_alloc(&config->arena, sizeof(*forward));

    if (forward)
        list_append(&user->forwards, forward);
    return forward;
}

static void config_forward_state(struct config *config, struct slirp_forward *forward,
                                 struct state *s)
{
    state_field(s, forward, udp);
    state_field(s, forward, host_addr);
    state_field(s, forward, host_port);
    state_field(s, forward, guest_port);
    config_limit(s, "host_port", forward->host_port, 1, UINT16_MAX);
    config_limit(s, "guest_port", forward->guest_port, 1, UINT16_MAX);
}

static void config_net_state(struct config *config, struct net_config *net, struct state *s)
{
    struct slirp_options *user = &net->user.network;

    net->kind = config_choice(s, "kind", net->kind, NET_TAP + 1);
    state_field(s, net, implied);
    state_bytes(s, "mac", net->mac, sizeof(net->mac));
    state_field(s, net, mac_set);
    if (s->loading && !s->error && net->mac[0] & 1)
        state_fail(s, "mac is not a NIC's address");
    config_name(config, s, "interface", &net->tap.interface, IFNAMSIZ - 1);
    state_field(s, net, vhost);
    state_field(s, user, host_loopback);
    CONFIG_LIST(s, "forwards", user->forwards, config_add_forward(config, user),
                config_forward_state);
}

static void config_share_state(struct config *config, struct share_config *share, struct state *s)
{
    struct share_options *directory = &share->directory;

    config_array(s, "tag", share->tag, sizeof(share->tag));
    config_text(config, s, "path", &directory->path, true);
    state_field(s, directory, writable);
    state_field(s, directory, guarded);
    state_field(s, directory, overlaid);
    state_field(s, directory, guest_uid);
    state_field(s, directory, guest_gid);
    config_limit(s, "guest_uid", directory->guest_uid, 0, CONFIG_MAX_OWNER);
    config_limit(s, "guest_gid", directory->guest_gid, 0, CONFIG_MAX_OWNER);
    if (s->loading)
        directory->names_fd = -1;
    if (s->loading && !s->error && !directory->path)
        state_fail(s, "a share without a directory");
    if (s->loading && !s->error && directory->overlaid && directory->writable)
        state_fail(s, "a share below an overlay is not writable");
}

static void config_console_state(struct config *config, struct console_config *console,
                                 const char *name, struct state *s)
{
    console->kind = config_choice(s, name, console->kind, CONSOLE_FD + 1);
    config_text(config, s, "path", &console->path, true);
    state_field(s, console, append);
    config_size(s, "max", &console->max, 0);
    if (!s->loading || s->error)
        return;
    console->fd = -1;       /* connected to nothing, if it was a descriptor */
    console->append = true; /* what the guest has written is there */
    if (console->kind == CONSOLE_FILE && !console->path)
        state_fail(s, "a console without a file");
}

static void config_port_state(struct config *config, struct port_config *port, struct state *s)
{
    config_name(config, s, "name", &port->name, CONFIG_MAX_PORT);
    state_field(s, port, console);
    state_field(s, port, ordered);
    if (s->loading && !s->error && !port->name)
        state_fail(s, "a port without a name");
}

void config_state(struct config *config, struct state *s)
{
    state_section(s, "config", 1);
    config_text(config, s, "kernel", &config->kernel, true);
    config_text(config, s, "initrd", &config->initrd, true);
    config_text(config, s, "cmdline", &config->cmdline, false);
    config_text(config, s, "dtb", &config->dtb, true);
    config_size(s, "memory", &config->memory, CONFIG_MIN_MEMORY);
    state_field(s, config, cpus);
    config_limit(s, "cpus", config->cpus, 1, CONFIG_MAX_CPUS);
    state_field(s, config, nested);
    state_field(s, config, pmu);
    state_field(s, config, rng);
    state_field(s, config, balloon);
    state_field(s, config, reboot);
    CONFIG_LIST(s, "disks", config->disks, config_add_disk(config), config_disk_state);
    if (s->loading) {
        config->restored = true;
        config->nets = NULL;
    }
    CONFIG_LIST(s, "nets", config->nets, config_add_net(config, NET_USER), config_net_state);
    CONFIG_LIST(s, "shares", config->shares, config_add_share(config), config_share_state);
    config_console_state(config, &config->serial, "serial", s);
    config_console_state(config, &config->console, "console", s);
    CONFIG_LIST(s, "ports", config->ports, config_add_port(config), config_port_state);
    state_end_section(s);
}
