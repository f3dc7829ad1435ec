/* SPDX-License-Identifier: MIT */
#include "vmm/machine/machine.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "devices/block/block.h"
#include "devices/block/open.h"
#include "devices/console/terminal.h"
#include "devices/fs/share.h"
#include "devices/net/net.h"
#include "devices/net/slirp.h"
#include "devices/net/tap.h"
#include "devices/virtio/blk.h"
#include "devices/virtio/console.h"
#include "devices/virtio/fs.h"
#include "devices/virtio/mmio.h"
#include "devices/virtio/net.h"
#include "devices/virtio/rng.h"
#include "devices/virtio/vhost_net.h"
#include "devices/virtio/virtio.h"
#include "vmm/config/config.h"
#include "vmm/core/cleanup.h"
#include "vmm/core/device.h"
#include "vmm/core/log.h"
#include "vmm/core/loop.h"
#include "vmm/kvm/arch.h"
#include "vmm/machine/stats.h"

#define OUTPUT_LINGER_MS 2000 /* how long the last words may take to reach a slow reader */
#define PORT_LINGER_MS   500  /* those of a port: the reset has waited for all of them */

/* The names devices have, in the order the board numbers them. */
static int machine_place(struct hardware *hw, const char *kind, unsigned number)
{
    struct hardware_device *place = &hw->virtio[hw->virtio_count];
    int error;

    if (hw->virtio_count == HARDWARE_MAX_VIRTIO || (error = arch_place_virtio(hw, place)))
        return log_refuse(ENOSPC, "too many devices: the machine has room for %d",
                          HARDWARE_MAX_VIRTIO);
    snprintf(place->name, sizeof(place->name), "%s%u", kind, number);
    hw->virtio_count++;
    return 0;
}

static int machine_place_devices(struct hardware *hw, const struct config *config)
{
    unsigned number = 0;
    int error = 0;

    for (const struct disk_config *disk = config->disks; disk && !error; disk = disk->next)
        error = machine_place(hw, "blk", number++);
    number = 0;
    for (const struct net_config *net = config->nets; net && !error; net = net->next)
        error = machine_place(hw, "net", number++);
    number = 0;
    for (const struct share_config *share = config->shares; share && !error; share = share->next)
        error = machine_place(hw, "fs", number++);
    if (!error && (config->console.kind != CONSOLE_NONE || config->ports))
        error = machine_place(hw, "console", 0);
    if (!error && config->rng)
        error = machine_place(hw, "rng", 0);
    return error;
}

/* What a kernel needs to be told to find its console and its root. */
static char *machine_default_cmdline(const struct config *config)
{
    const char *root = config->disks && !config->initrd ? " root=/dev/vda" : "";
    const char *mode = !*root ? "" : config->disks->image.read_only ? " ro" : " rw";
    const char *tty = config->console.kind == CONSOLE_STDIO ? "hvc0" : arch_default_console();
    char *cmdline;

    return asprintf(&cmdline, "console=%s%s%s", tty, root, mode) < 0 ? NULL : cmdline;
}

int machine_describe(struct machine *machine, const struct config *config)
{
    int error;

    *machine = (struct machine){ .config = config,
                                 .vm = { .kvm = -1, .fd = -1, .all_parked = -1 },
                                 .kernel = { .fd = -1 },
                                 .initrd = { .fd = -1 },
                                 .dtb = { .fd = -1 },
                                 .serial_fd = -1,
                                 .console_fd = -1 };
    machine->cmdline = config->cmdline ? strdup(config->cmdline) : machine_default_cmdline(config);
    if (!machine->cmdline)
        return log_error(ENOMEM, "command line");
    error = arch_describe(&machine->hardware, config);
    return error ? error : machine_place_devices(&machine->hardware, config);
}

static void print_device(const struct hardware_device *device)
{
    if (device->size == 0)
        return;
    printf("  %#012" PRIx64 "  %-11s", device->base, device->name);
    if (device->gsi)
        printf(" irq %u", device->gsi);
    putchar('\n');
}

void machine_print(const struct machine *machine)
{
    const struct hardware *hw = &machine->hardware;

    printf("cpus     %u\nkernel   %s\n", hw->cpus, machine->config->kernel);
    if (machine->config->initrd)
        printf("initrd   %s\n", machine->config->initrd);
    printf("cmdline  %s\nmemory\n", machine->cmdline);
    for (unsigned i = 0; i < hw->ram_ranges; i++)
        printf("  %#012" PRIx64 " - %#012" PRIx64 "  %" PRIu64 " MiB\n", hw->ram[i].base,
               hw->ram[i].base + hw->ram[i].size - 1, hw->ram[i].size >> 20);
    printf("devices\n");
    print_device(&hw->gic);
    print_device(&hw->gic_cpus);
    print_device(&hw->serial);
    print_device(&hw->rtc);
    print_device(&hw->power);
    print_device(&hw->pvpanic);
    print_device(&hw->debug_exit);
    for (unsigned i = 0; i < hw->virtio_count; i++)
        print_device(&hw->virtio[i]);
}

int machine_add_device(struct machine *machine, struct device *device, struct bus *bus,
                       struct io_region *region)
{
    int error = bus_map(bus, region);

    device->next = machine->devices;
    machine->devices = device;
    return error ? log_error(-error, "%s: map its registers", device->name) : 0;
}

static int machine_open_files(struct machine *machine)
{
    const struct config *config = machine->config;
    int error = image_open(&machine->kernel, config->kernel);

    if (!error && config->initrd)
        error = image_open_fd(&machine->initrd, config->initrd_fd, config->initrd);
    if (!error && config->dtb)
        error = image_open(&machine->dtb, config->dtb);
    return error;
}

static int machine_add_memory(struct machine *machine)
{
    const struct hardware *hw = &machine->hardware;
    int error = 0;

    machine->memory = guest_memory_create();
    if (!machine->memory)
        return log_error(ENOMEM, "guest memory");
    for (unsigned i = 0; i < hw->ram_ranges && !error; i++)
        error = guest_memory_add(machine->memory, hw->ram[i].base, hw->ram[i].size, NULL);
    if (error)
        log_error(-error, "--memory: the host does not give %" PRIu64 " MiB; ask for less",
                  machine->config->memory >> 20);
    return error;
}

/* A terminal for what --serial or --console says. Leaves *ret NULL for "none". */
static int machine_open_terminal(struct terminal **ret, int *ret_fd, struct machine *machine,
                                 const struct console_config *config, struct terminal_config host)
{
    int flags = O_WRONLY | O_CREAT | O_CLOEXEC | O_NOCTTY;

    host.input = host.output = -1;
    switch (config->kind) {
    case CONSOLE_NONE:
        break;
    case CONSOLE_STDIO:
        host.input = STDIN_FILENO;
        host.output = STDOUT_FILENO;
        break;
    case CONSOLE_FD:
        host.input = host.output = config->fd;
        break;
    case CONSOLE_FILE:
        *ret_fd = open(config->path, flags | (config->append ? O_APPEND : O_TRUNC), 0666);
        if (*ret_fd < 0)
            return log_error(errno, "open %s", config->path);
        host.output = *ret_fd;
        break;
    }
    return terminal_create(ret, &host, machine->loop);
}

/* *ret is `fd`, or -1 if that is not open for it. */
static int machine_check_fd(int *ret, const char *port, int fd, int useless)
{
    int flags = fd < 0 ? useless : fcntl(fd, F_GETFL);

    if (flags < 0)
        return log_error(errno, "port %s: descriptor %d", port, fd);
    *ret = (flags & O_ACCMODE) == useless ? -1 : fd;
    return 0;
}

/* The terminal has a duplicate, which is to be the last. */
static int machine_let_go(const char *port, int fd)
{
    cleanup_close int null = open("/dev/null", O_WRONLY | O_CLOEXEC);

    return null < 0 || dup3(null, fd, O_CLOEXEC) < 0 ? log_error(errno, "port %s", port) : 0;
}

static int machine_open_port(struct machine *machine, const struct port_config *config,
                             struct terminal_config host)
{
    int error;

    if (machine->stream_count + !!machine->console == VIRTIO_CONSOLE_PORTS)
        return log_refuse(ENOSPC, "--port: a console has room for %d ports", VIRTIO_CONSOLE_PORTS);
    if ((error = machine_check_fd(&host.input, config->name, config->input, O_WRONLY)) ||
        (error = machine_check_fd(&host.output, config->name, config->output, O_RDONLY)))
        return error;
    host.stream = !config->console;
    error = terminal_create(&machine->streams[machine->stream_count], &host, machine->loop);
    if (error)
        return error;
    machine->stream_count++;
    return host.stream && host.output >= 0 && host.output != host.input
               ? machine_let_go(config->name, host.output)
               : 0;
}

static int machine_open_terminals(struct machine *machine, const struct terminal_config *host)
{
    const struct config *config = machine->config;
    int error = machine_open_terminal(&machine->serial, &machine->serial_fd, machine,
                                      &config->serial, *host);

    if (!error && config->console.kind != CONSOLE_NONE)
        error = machine_open_terminal(&machine->console, &machine->console_fd, machine,
                                      &config->console, *host);
    for (const struct port_config *port = config->ports; port && !error; port = port->next)
        error = machine_open_port(machine, port, *host);
    return error;
}

/* A device with a fast data path gets a loop of its own. */
static struct loop *machine_add_loop(struct machine *machine)
{
    struct loop *loop = loop_create();

    if (!loop)
        log_error(errno, "create an event loop");
    else
        machine->device_loops[machine->device_loop_count++] = loop;
    return loop;
}

/* Where a device keeps what its registers say; the pages come into being with the first. */
static void *machine_shadow(struct machine *machine, const struct hardware_device *place)
{
    const struct hardware_range *range = &machine->hardware.virtio_pages;
    struct ram_region *shadow = &machine->vm.shadow;

    if (!shadow->size) {
        void *host =
            mmap(NULL, range->size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

        if (host == MAP_FAILED)
            return NULL;
        *shadow = (struct ram_region){ .base = range->base, .size = range->size, .host = host };
    }
    return (char *)shadow->host + (place->base - shadow->base);
}

int machine_add_virtio(struct machine *machine, const struct hardware_device *place,
                       struct virtio_device *virtio, struct loop *loop)
{
    struct notifiers notifiers = vm_notifiers(&machine->vm);
    void *shadow = machine_shadow(machine, place);
    struct virtio_mmio *mmio;
    int error = shadow
                    ? virtio_mmio_create(&mmio, virtio, place->base, place->gsi, &notifiers, shadow)
                    : log_error(ENOMEM, "%s: its registers", place->name);

    if (error) {
        virtio_destroy(virtio);
        return error;
    }
    error = machine_add_device(machine, virtio_mmio_device(mmio), &machine->mmio,
                               virtio_mmio_region(mmio));
    if (!error && loop != machine->loop && (error = loop_start(loop, place->name)))
        log_error(-error, "%s: start its thread", place->name);
    return error;
}

static int machine_add_disk(struct machine *machine, const struct hardware_device *place,
                            const struct disk_config *config)
{
    struct loop *loop = machine_add_loop(machine);
    struct virtio_device *virtio;
    struct block *block;
    int error;

    if (!loop)
        return -ENOMEM;
    error = block_open(&block, &config->image, loop);
    if (error)
        return error;
    error = virtio_blk_create(&virtio, place->name, block, config->serial, config->poll_us,
                              machine->memory, loop);
    if (error) {
        block_close(block);
        return log_error(-error, "%s", place->name);
    }
    return machine_add_virtio(machine, place, virtio, loop);
}

/* 52:54:00 is what KVM guests have had for long; the last byte tells a guest's cards apart. */
static void machine_choose_mac(uint8_t mac[6], const struct net_config *config, unsigned number)
{
    const uint8_t fallback[6] = { 0x52, 0x54, 0x00, 0x12, 0x34, (uint8_t)(0x56 + number) };

    memcpy(mac, config->mac_set ? config->mac : fallback, sizeof(fallback));
}

/* The card before `net`, whose frames the host's kernel moves if it may. */
static int machine_create_card(struct machine *machine, struct virtio_device **ret,
                               const char *name, const struct net_config *config, struct net *net,
                               const uint8_t mac[6], struct loop *loop)
{
    int error = -ENOENT;

    if (config->kind == NET_TAP && config->vhost != VHOST_OFF)
        error = vhost_net_create(ret, name, net, tap_fd(net), mac, machine->memory, loop);
    if (!error)
        return 0;
    if (config->vhost == VHOST_ON)
        return log_refuse(-error,
                          "--net tap: vhost=on: /dev/vhost-net: %s (as root: modprobe vhost_net; "
                          "its group, kvm, may use it)",
                          strerror(-error));
    error = virtio_net_create(ret, name, net, mac, machine->memory, loop);
    return error ? log_error(-error, "%s", name) : 0;
}

static int machine_add_net(struct machine *machine, struct hardware_device *place,
                           const struct net_config *config, unsigned number)
{
    struct loop *loop = machine_add_loop(machine);
    struct virtio_device *virtio;
    struct net *net;
    uint8_t mac[6];
    int error;

    if (!loop)
        return -ENOMEM;
    error = config->kind == NET_TAP ? tap_open(&net, &config->tap, loop)
                                    : slirp_open(&net, &config->user, loop);
    if (error && config->implied) {
        log_warn("going on without a network (--net none says so without a warning)");
        place->size = 0; /* the guest is not told of it */
        return 0;
    }
    if (error)
        return error;
    machine_choose_mac(mac, config, number);
    error = machine_create_card(machine, &virtio, place->name, config, net, mac, loop);
    if (error) {
        net_close(net);
        return error;
    }
    return machine_add_virtio(machine, place, virtio, loop);
}

static int machine_add_share(struct machine *machine, const struct hardware_device *place,
                             const struct share_config *config, unsigned descriptors)
{
    struct loop *loop = machine_add_loop(machine);
    struct virtio_device *virtio;
    struct share *share;
    int error;

    if (!loop)
        return -ENOMEM;
    error = share_open(&share, &config->directory, descriptors);
    if (error)
        return error;
    error = virtio_fs_create(&virtio, place->name, config->tag, share, machine->memory, loop);
    if (error) {
        share_close(share);
        return log_error(-error, "%s", place->name);
    }
    error = machine_add_virtio(machine, place, virtio, loop);
    if (!error)
        loop_call(loop, share_confine, share);
    return error;
}

static int machine_add_console(struct machine *machine, const struct hardware_device *place)
{
    struct virtio_console_port ports[VIRTIO_CONSOLE_PORTS];
    const struct port_config *config = machine->config->ports;
    struct virtio_device *virtio;
    unsigned count = 0;
    int error;

    if (machine->console)
        ports[count++] =
            (struct virtio_console_port){ .terminal = machine->console, .console = true };
    for (unsigned i = 0; i < machine->stream_count; i++, config = config->next)
        ports[count++] = (struct virtio_console_port){ .terminal = machine->streams[i],
                                                       .name = config->name,
                                                       .console = config->console,
                                                       .ordered = config->ordered };
    error =
        virtio_console_create(&virtio, place->name, ports, count, machine->memory, machine->loop);
    if (error)
        return log_error(-error, "%s", place->name);
    return machine_add_virtio(machine, place, virtio, machine->loop);
}

/* Disks, cards, shares, console, rng: as machine_place_devices() gave them their places. */
static int machine_add_virtio_devices(struct machine *machine)
{
    const struct config *config = machine->config;
    struct hardware_device *place = machine->hardware.virtio;
    struct virtio_device *virtio;
    unsigned number = 0, shares = 0;
    int error = 0;

    for (const struct disk_config *disk = config->disks; disk && !error; disk = disk->next)
        error = machine_add_disk(machine, place++, disk);
    for (const struct net_config *net = config->nets; net && !error; net = net->next)
        error = machine_add_net(machine, place++, net, number++);
    for (const struct share_config *share = config->shares; share; share = share->next)
        shares++;
    for (const struct share_config *share = config->shares; share && !error; share = share->next)
        error = machine_add_share(machine, place++, share, share_descriptors(shares));

    if (!error && (machine->console || machine->stream_count))
        error = machine_add_console(machine, place++);
    if (!error && config->rng) {
        error = virtio_rng_create(&virtio, place->name, machine->memory, machine->loop);
        error = error ? log_error(-error, "%s", place->name)
                      : machine_add_virtio(machine, place, virtio, machine->loop);
    }
    return error;
}

int machine_create(struct machine *machine, const struct machine_host *host)
{
    const struct terminal_config terminal = { .quit = host->quit,
                                              .owner = host->owner,
                                              .interrupts = host->interrupts };
    int error;

    machine->loop = host->loop;
    machine->events = host->events;
    timeline_mark(&machine->timeline, PHASE_BEGIN);
    if ((error = machine_open_files(machine)) || (error = machine_add_memory(machine)))
        return error;
    timeline_mark(&machine->timeline, PHASE_MEMORY);
    if ((error = vm_init(&machine->vm, &machine->mmio, &machine->ports, &host->events,
                         &machine->timeline)))
        return error;
    timeline_mark(&machine->timeline, PHASE_KVM);
    if ((error = machine_open_terminals(machine, &terminal)) ||
        (error = arch_add_platform(machine)) || (error = machine_add_virtio_devices(machine)))
        return error;
    timeline_mark(&machine->timeline, PHASE_DEVICES);
    return 0;
}

/* Only if the machine came as far as its vCPUs. */
static void machine_print_stats(struct machine *machine)
{
    if (!machine->config->stats || !machine->vm.stats)
        return;
    terminal_close(machine->console, OUTPUT_LINGER_MS);
    terminal_close(machine->serial, OUTPUT_LINGER_MS);
    stats_print(machine);
}

void machine_press_power_button(struct machine *machine)
{
    arch_press_power_button(machine);
}

void machine_each_terminal(const struct machine *machine, void (*fn)(struct terminal *terminal))
{
    if (machine->serial)
        fn(machine->serial);
    if (machine->console)
        fn(machine->console);
    for (unsigned i = 0; i < machine->stream_count; i++)
        fn(machine->streams[i]);
}

bool machine_lost_output(const struct machine *machine)
{
    bool lost = false;

    for (unsigned i = 0; i < machine->stream_count; i++)
        lost |= terminal_lost_output(machine->streams[i]);
    return lost;
}

void machine_destroy(struct machine *machine)
{
    vm_destroy(&machine->vm);
    for (unsigned i = 0; i < machine->device_loop_count; i++)
        loop_join(machine->device_loops[i]);
    machine_print_stats(machine);
    while (machine->devices) {
        struct device *device = machine->devices;

        machine->devices = device->next;
        device->ops->destroy(device);
    }
    for (unsigned i = 0; i < machine->device_loop_count; i++)
        loop_destroy(machine->device_loops[i]);
    terminal_destroy(machine->console, OUTPUT_LINGER_MS);
    terminal_destroy(machine->serial, OUTPUT_LINGER_MS);
    for (unsigned i = 0; i < machine->stream_count; i++)
        terminal_destroy(machine->streams[i], PORT_LINGER_MS);
    if (machine->serial_fd >= 0)
        close(machine->serial_fd);
    if (machine->console_fd >= 0)
        close(machine->console_fd);
    vm_finish(&machine->vm);
    if (machine->vm.shadow.size)
        munmap(machine->vm.shadow.host, machine->vm.shadow.size);
    image_close(&machine->kernel);
    image_close(&machine->initrd);
    image_close(&machine->dtb);
    guest_memory_destroy(machine->memory);
    free(machine->cmdline);
}

int machine_start(struct machine *machine)
{
    int error;

    if ((error = vm_create(&machine->vm, machine->memory, machine->hardware.cpus)) ||
        (error = arch_boot(machine)))
        return error;
    timeline_mark(&machine->timeline, PHASE_IMAGE);
    if ((error = vm_start(&machine->vm)))
        return error;
    vm_resume(&machine->vm);
    return 0;
}

void machine_park(struct machine *machine)
{
    vm_park(&machine->vm);
}

void machine_resume(struct machine *machine)
{
    vm_resume(&machine->vm);
}

bool machine_is_busy(struct machine *machine, char *name, size_t size)
{
    return vm_find_busy(&machine->vm, name, size);
}

int machine_parked_fd(const struct machine *machine)
{
    return machine->vm.all_parked;
}

void machine_stop(struct machine *machine)
{
    vm_destroy(&machine->vm);
}

void machine_pause_consoles(struct machine *machine)
{
}

void machine_resume_consoles(struct machine *machine)
{
}

int machine_pause_devices(struct machine *machine, uint64_t deadline_ns, const char **ret_busy)
{
    for (struct device *device = machine->devices; device; device = device->next) {
        int error = device->ops->pause(device, deadline_ns);

        if (!error)
            continue;
        *ret_busy = device->name;
        for (struct device *done = machine->devices; done != device; done = done->next)
            done->ops->resume(done);
        return error;
    }
    return 0;
}

void machine_resume_devices(struct machine *machine)
{
    for (struct device *device = machine->devices; device; device = device->next)
        device->ops->resume(device);
}

void machine_reset(struct machine *machine)
{
    for (struct device *device = machine->devices; device; device = device->next)
        device->ops->reset(device);
    guest_memory_clear(machine->memory);
}
