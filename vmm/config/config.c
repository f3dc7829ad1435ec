/* SPDX-License-Identifier: MIT */
#include "vmm/config/config.h"

#include <errno.h>
#include <string.h>

#include "vmm/core/base.h"

int config_set_defaults(struct config *config)
{
    struct net_config *net;

    *config = (struct config){
        .initrd_fd = -1,
        .unpacked_fd = -1,
        .memory = 512 * MIB,
        .cpus = 1,
        .serial = { .kind = CONSOLE_STDIO, .implied = true, .fd = -1 },
        .console = { .kind = CONSOLE_NONE, .implied = true, .fd = -1 },
        .rng = true,
        .reboot = true,
        .grace_ms = 10 * 1000, /* as of docker stop */
        .log_level = LOG_LEVEL_WARN,
    };
    net = config_add_net(config, NET_USER);
    if (!net)
        return -ENOMEM;
    net->implied = true;
    return 0;
}

static void *config_alloc(struct config *config, const char *what, size_t size)
{
    void *item = arena_alloc(&config->arena, size);

    if (!item)
        log_error(ENOMEM, "%s", what);
    return item;
}

struct disk_config *config_add_disk(struct config *config)
{
    struct disk_config *disk = config_alloc(config, "disk", sizeof(*disk));

    if (!disk)
        return NULL;
    disk->poll_us = -1;
    list_append(&config->disks, disk);
    return disk;
}

struct net_config *config_add_net(struct config *config, enum net_kind kind)
{
    struct net_config *net = config_alloc(config, "net", sizeof(*net));

    if (!net)
        return NULL;
    if (config->nets && config->nets->implied)
        config->nets = NULL;
    net->kind = kind;
    net->tap.fd = net->user.fd = -1;
    list_append(&config->nets, net);
    return net;
}

struct share_config *config_add_share(struct config *config)
{
    struct share_config *share = config_alloc(config, "share", sizeof(*share));

    if (share)
        list_append(&config->shares, share);
    return share;
}

struct port_config *config_add_port(struct config *config)
{
    struct port_config *port = config_alloc(config, "port", sizeof(*port));

    if (!port)
        return NULL;
    port->input = port->output = -1;
    list_append(&config->ports, port);
    return port;
}

/* Sets the tag to the directory's name, if that is a valid tag. */
static void config_name_share(struct share_config *share)
{
    const char *path = share->directory.path;
    size_t end = strlen(path), begin;

    while (end > 0 && path[end - 1] == '/')
        end--;
    for (begin = end; begin > 0 && path[begin - 1] != '/';)
        begin--;
    if (end - begin >= sizeof(share->tag))
        return;
    memcpy(share->tag, path + begin, end - begin);
    if (!strcmp(share->tag, ".") || !strcmp(share->tag, ".."))
        *share->tag = '\0';
}

void config_complete(struct config *config)
{
    for (struct share_config *share = config->shares; share; share = share->next)
        if (!*share->tag)
            config_name_share(share);
    if (config->console.kind == CONSOLE_STDIO && config->serial.implied)
        config->serial.kind = CONSOLE_NONE;
}

static int config_check_ports(const struct config *config)
{
    for (const struct port_config *port = config->ports; port; port = port->next) {
        if (port->input < 0 && port->output < 0 && !config->restored)
            return log_refuse(EINVAL, "port %s: needs a descriptor (fd=N)", port->name);
        for (const struct port_config *other = port->next; other; other = other->next)
            if (!strcmp(port->name, other->name))
                return log_refuse(EINVAL, "port %s: another port has this name", port->name);
    }
    return 0;
}

static bool config_same_console(const struct console_config *a, const struct console_config *b)
{
    if (a->kind != b->kind || a->kind == CONSOLE_NONE)
        return false;
    return a->kind == CONSOLE_STDIO || (a->kind == CONSOLE_FD && a->fd >= 0 && a->fd == b->fd) ||
           (a->kind == CONSOLE_FILE && !strcmp(a->path, b->path));
}

int config_check_nets(const struct config *config)
{
    for (const struct net_config *net = config->nets; net; net = net->next) {
        if (net->kind == NET_TAP && !net->tap.interface == (net->tap.fd < 0))
            return log_refuse(EINVAL, "net tap: needs either name or fd");
        if (net->user.fd >= 0 && (net->user.network.forwards || net->user.network.host_loopback))
            return log_refuse(EINVAL, "net user: hostfwd and host-loopback are of the minivmm-net "
                                      "behind fd; give them to that");
        for (const struct net_config *other = net->next; other; other = other->next)
            if ((net->tap.fd >= 0 && net->tap.fd == other->tap.fd) ||
                (net->user.fd >= 0 && net->user.fd == other->user.fd))
                return log_refuse(EINVAL, "net %s: another NIC has descriptor %d",
                                  net->kind == NET_TAP ? "tap" : "user",
                                  net->kind == NET_TAP ? net->tap.fd : net->user.fd);
    }
    return 0;
}

int config_check_disks(const struct config *config)
{
    for (const struct disk_config *disk = config->disks; disk; disk = disk->next) {
        if (disk->image.throw_away && disk->image.read_only)
            return log_refuse(EINVAL, "disk %s: ro and throw-away exclude each other",
                              disk->image.path);
        if (disk->image.max && !disk->image.throw_away)
            return log_refuse(EINVAL, "disk %s: max is of throw-away; an image has its own size",
                              disk->image.path);
    }
    return 0;
}

static int config_check_shares(const struct config *config)
{
    for (const struct share_config *share = config->shares; share; share = share->next) {
        const struct share_config *other = config->shares;

        if (!*share->tag)
            return log_refuse(EINVAL, "share %s: needs a tag of 1 to %zu bytes (tag=NAME)",
                              share->directory.path, sizeof(share->tag) - 1);
        while (strcmp(other->tag, share->tag) != 0)
            other = other->next;
        if (other != share)
            return log_refuse(EINVAL, "share %s: another share has the tag '%s' (use tag=NAME)",
                              share->directory.path, share->tag);
    }
    return 0;
}

int config_check(const struct config *config)
{
    int error;

    if (!config->kernel)
        return log_refuse(EINVAL, "nothing to boot: kernel is missing "
                                  "(--kernel FILE; see minivmm --help)");
    if (config_same_console(&config->serial, &config->console))
        return log_refuse(EINVAL, "console and serial use the same input or output; change one");
    if (config->sandbox == SANDBOX_STRICT && (config->dump_acpi || config->dump_dtb))
        return log_refuse(EINVAL, "sandbox=strict leaves no file to write %s to; use --sandbox=on",
                          config->dump_acpi ? "dump-acpi" : "dump-dtb");
    if ((error = config_check_ports(config)) || (error = config_check_nets(config)) ||
        (error = config_check_disks(config)))
        return error;
    return config_check_shares(config);
}

/* The default has the prefix of KVM guests, 52:54:00; the last byte differs for each NIC. */
void config_choose_mac(uint8_t mac[6], const struct net_config *net, unsigned number)
{
    const uint8_t fallback[6] = { 0x52, 0x54, 0x00, 0x12, 0x34, (uint8_t)(0x56 + number) };

    memcpy(mac, net->mac_set ? net->mac : fallback, sizeof(fallback));
}

void config_finish(struct config *config)
{
    arena_free(&config->arena);
    *config = (struct config){ 0 };
}
