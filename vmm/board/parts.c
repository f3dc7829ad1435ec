/* SPDX-License-Identifier: MIT */
#include "vmm/board/parts.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "devices/block/block.h"
#include "devices/block/open.h"
#include "devices/chips/vmgenid.h"
#include "devices/fs/share.h"
#include "devices/net/net.h"
#include "devices/net/tap.h"
#include "devices/net/user.h"
#include "devices/virtio/balloon.h"
#include "devices/virtio/blk.h"
#include "devices/virtio/fs.h"
#include "devices/virtio/net.h"
#include "devices/virtio/rng.h"
#include "devices/virtio/vhost_net.h"
#include "vmm/board/board.h"
#include "vmm/board/consoles.h"
#include "vmm/config/config.h"
#include "vmm/core/base.h"
#include "vmm/core/log.h"
#include "vmm/core/loop.h"
#include "vmm/kvm/arch.h"

/* Disks. */

static unsigned parts_count_disks(const struct config *config)
{
    unsigned count = 0;

    for (const struct disk_config *disk = config->disks; disk; disk = disk->next)
        count++;
    return count;
}

static int parts_create_disk(struct board *board, struct hardware_device *place, unsigned number)
{
    const struct disk_config *config = board->config->disks;
    struct board_loop *own = board_add_loop(board, place->name);
    struct virtio_device *virtio;
    struct block *block;
    int error;

    if (!own)
        return -ENOMEM;
    while (number-- > 0)
        config = config->next;
    error = block_open(&block, &config->image, own->loop);
    if (error)
        return error;
    error = virtio_blk_create(&virtio, place->name, block, config->serial, config->poll_us,
                              board->host.memory, own->loop);
    if (error) {
        block_close(block);
        return log_error(-error, "%s", place->name);
    }
    board->disks[board->disk_count++] = block;
    return board_add_virtio(board, place, virtio);
}

/* NICs. */

static unsigned parts_count_nets(const struct config *config)
{
    unsigned count = 0;

    for (const struct net_config *net = config->nets; net; net = net->next)
        count++;
    return count;
}

/* Creates the device for the back-end `net`. */
static int parts_create_nic(struct board *board, struct virtio_device **ret, const char *name,
                            const struct net_config *config, struct net *net, const uint8_t mac[6],
                            struct loop *loop)
{
    struct guest_memory *memory = board->host.memory;
    int error;

    if (!config->vhost) {
        error = virtio_net_create(ret, name, net, mac, memory, loop);
        return error ? log_error(-error, "%s", name) : 0;
    }
    error = vhost_net_create(ret, name, net, tap_fd(net), mac, memory, loop);
    return error ? log_refuse(-error,
                              "--net tap: vhost: /dev/vhost-net: %s (as root: modprobe vhost_net; "
                              "its group, kvm, may use it)",
                              strerror(-error))
                 : 0;
}

static int parts_create_net(struct board *board, struct hardware_device *place, unsigned number)
{
    const struct net_config *config = board->config->nets;
    struct net *net = board->user_nets[number];
    struct board_loop *own = board_add_loop(board, place->name);
    struct virtio_device *virtio;
    uint8_t mac[6];
    int error = 0;

    if (!own)
        return -ENOMEM;
    for (unsigned i = 0; i < number; i++)
        config = config->next;
    if (config->kind == NET_USER && !net) {
        place->size = 0; /* it is optional: ACPI and the device tree leave it out */
        return 0;
    }
    if (net)
        user_attach(net, own->loop);
    else if ((error = tap_open(&net, &config->tap, own->loop)))
        return error;
    config_choose_mac(mac, config, number);
    board->nics = number + 1;
    error = parts_create_nic(board, &virtio, place->name, config, net, mac, own->loop);
    if (error) {
        net_close(net);
        board->user_nets[number] = NULL;
        return error;
    }
    return board_add_virtio(board, place, virtio);
}

int parts_start(struct board *board)
{
    struct net **net = board->user_nets;

    for (const struct net_config *config = board->config->nets; config; config = config->next) {
        struct user_options options = config->user;
        int error;

        options.optional = config->implied;
        error = config->kind == NET_USER ? user_start(net, &options) : 0;
        if (error && !config->implied)
            return error;
        if (error)
            log_warn("continuing without a network (--net none avoids this warning)");
        net++;
    }
    return 0;
}

int parts_wait(struct board *board)
{
    int error = 0;

    for (unsigned i = 0; i < ARRAY_SIZE(board->user_nets) && !error; i++)
        if (board->user_nets[i])
            error = user_wait(board->user_nets[i]);
    return error;
}

/* Shared directories. */

static unsigned parts_count_shares(const struct config *config)
{
    unsigned count = 0;

    for (const struct share_config *share = config->shares; share; share = share->next)
        count++;
    return count;
}

static int parts_create_share(struct board *board, struct hardware_device *place, unsigned number)
{
    const struct share_config *config = board->config->shares;
    struct board_loop *own = board_add_loop(board, place->name);
    struct virtio_device *virtio;
    struct share *share;
    int error;

    if (!own)
        return -ENOMEM;
    if (number == 0 &&
        budget_init(&board->share_budget, board->config->memory, parts_count_shares(board->config)))
        return log_refuse(EMFILE, "too many shared directories for so few open files (see ulimit "
                                  "-Hn)");
    while (number-- > 0)
        config = config->next;
    error = share_open(&share, &config->directory, &board->share_budget, own->loop);
    if (error)
        return error;
    error =
        virtio_fs_create(&virtio, place->name, config->tag, share, board->host.memory, own->loop);
    if (error) {
        share_close(share);
        return log_error(-error, "%s", place->name);
    }
    board->shares[board->share_count++] = share;
    own->started = share_confine;
    own->device = share;
    return board_add_virtio(board, place, virtio);
}

/* One virtio console, for --console and all ports. */

static unsigned parts_count_consoles(const struct config *config)
{
    return config->console.kind != CONSOLE_NONE || config->ports;
}

static int parts_create_console(struct board *board, struct hardware_device *place, unsigned number)
{
    struct virtio_console_port ports[VIRTIO_CONSOLE_PORTS];
    const struct port_config *config = board->config->ports;
    struct virtio_device *virtio;
    unsigned count = 0;
    int error;

    if (board->console)
        ports[count++] =
            (struct virtio_console_port){ .terminal = board->console, .console = true };
    for (unsigned i = 0; i < board->stream_count; i++, config = config->next)
        ports[count++] = (struct virtio_console_port){ .terminal = board->streams[i],
                                                       .name = config->name,
                                                       .console = config->console,
                                                       .ordered = config->ordered };
    error = virtio_console_create(&virtio, place->name, ports, count, board->host.memory,
                                  board->host.loop);
    if (error)
        return log_error(-error, "%s", place->name);
    board->console_name = place->name;
    return board_add_virtio(board, place, virtio);
}

/* The entropy device. */

static unsigned parts_count_rngs(const struct config *config)
{
    return config->rng;
}

static int parts_create_rng(struct board *board, struct hardware_device *place, unsigned number)
{
    struct virtio_device *virtio;
    int error = virtio_rng_create(&virtio, place->name, board->host.memory, board->host.loop);

    if (error)
        return log_error(-error, "%s", place->name);
    return board_add_virtio(board, place, virtio);
}

/* The memory balloon. */

static unsigned parts_count_balloons(const struct config *config)
{
    return config->balloon;
}

static int parts_create_balloon(struct board *board, struct hardware_device *place, unsigned number)
{
    struct virtio_device *virtio;
    int error = virtio_balloon_create(&virtio, place->name, board->host.memory, board->host.loop);

    if (error)
        return log_error(-error, "%s", place->name);
    return board_add_virtio(board, place, virtio);
}

/* The generation ID, which is not virtio: the architecture has a place for it. */

static int parts_create_vmgenid(struct board *board)
{
    const struct hardware_device *place = &board->hardware.vmgenid;
    const struct irq_line irq = board_irq(board, place->gsi);

    if (place->size == 0)
        return 0;
    board->vmgenid = vmgenid_create(place->name, board->host.memory, place->base, &irq);
    return board_add_chip(board, board->vmgenid, NULL);
}

/* In the order in which the guest finds them. */
static const struct part {
    const char *kind; /* the devices are "blk0", "blk1", ... */
    unsigned (*count)(const struct config *config);
    int (*create)(struct board *board, struct hardware_device *place, unsigned number);
} parts[] = {
    { "blk", parts_count_disks, parts_create_disk },
    { "net", parts_count_nets, parts_create_net },
    { "fs", parts_count_shares, parts_create_share },
    { "console", parts_count_consoles, parts_create_console },
    { "rng", parts_count_rngs, parts_create_rng },
    { "balloon", parts_count_balloons, parts_create_balloon },
};

static int parts_place(struct hardware *hw, const char *kind, unsigned number)
{
    struct hardware_device *place = &hw->virtio[hw->virtio_count];

    if (hw->virtio_count == HARDWARE_MAX_VIRTIO || arch_place_virtio(hw, place))
        return log_refuse(ENOSPC, "too many devices: the machine has room for %d",
                          HARDWARE_MAX_VIRTIO);
    snprintf(place->name, sizeof(place->name), "%s%u", kind, number);
    hw->virtio_count++;
    return 0;
}

int parts_describe(struct board *board, const struct config *config)
{
    int error;

    *board = (struct board){ .config = config, .serial_fd = -1, .console_fd = -1 };
    error = arch_describe(&board->hardware, config->cpus, config->memory);
    if (config->dtb)
        board->hardware.vmgenid.size = 0; /* the user's tree does not reserve RAM for it */
    for (const struct part *part = parts; part < parts + ARRAY_SIZE(parts); part++)
        for (unsigned i = 0; !error && i < part->count(config); i++)
            error = parts_place(&board->hardware, part->kind, i);
    return error;
}

int parts_create(struct board *board, const struct board_host *host,
                 const struct terminal_config *terminal)
{
    struct hardware_device *place = board->hardware.virtio;
    int error;

    board->host = *host;
    error = consoles_open(board, terminal);
    if (!error)
        error = arch_add_platform(board);
    if (!error)
        error = parts_create_vmgenid(board);
    for (const struct part *part = parts; part < parts + ARRAY_SIZE(parts); part++)
        for (unsigned i = 0; !error && i < part->count(board->config); i++)
            error = part->create(board, place++, i);
    return error;
}
