/* SPDX-License-Identifier: MIT */
#include "vmm/config/config.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>

#include "vmm/config/option.h"
#include "vmm/config/parse.h"
#include "vmm/config/schema.h"
#include "vmm/core/base.h"

/* What a form opens: a disk, a card, a console. Its keys write into `filled`. */

static int config_read_disk(struct option_reader *r, char *value, void *target)
{
    struct disk_config **disks = target, *disk;

    disk = r->filled = arena_alloc(r->arena, sizeof(*disk));
    if (!disk)
        return log_error(ENOMEM, "--disk");
    list_append(disks, disk);
    disk->poll_us = -1;
    return option_read_text(r, value, &disk->image.path);
}

static int config_read_poll(struct option_reader *r, char *value, void *target)
{
    int *poll_us = target;

    if (strcmp(value, "auto") != 0)
        return option_read_number(r, value, poll_us);
    *poll_us = -1;
    return 0;
}

/* Text into an array of the option's `max` and one more. */
static int config_read_array(struct option_reader *r, char *value, void *target)
{
    char *text;
    int error = option_read_text(r, value, &text);

    if (!error)
        strcpy(target, text);
    return error;
}

static int config_read_share(struct option_reader *r, char *value, void *target)
{
    struct share_config **shares = target, *share;

    share = r->filled = arena_alloc(r->arena, sizeof(*share));
    if (!share)
        return log_error(ENOMEM, "--share");
    list_append(shares, share);
    return option_read_text(r, value, &share->directory.path);
}

static int config_add_net(struct option_reader *r, struct net_config **nets, enum net_kind kind)
{
    struct net_config *net;

    net = r->filled = arena_alloc(r->arena, sizeof(*net));
    if (!net)
        return log_error(ENOMEM, "--net");
    if (*nets && (*nets)->implied)
        *nets = NULL;
    list_append(nets, net);
    net->kind = kind;
    net->tap.fd = -1;
    return 0;
}

static int config_read_user(struct option_reader *r, char *value, void *target)
{
    return config_add_net(r, target, NET_USER);
}

static int config_read_tap(struct option_reader *r, char *value, void *target)
{
    return config_add_net(r, target, NET_TAP);
}

static int config_read_no_net(struct option_reader *r, char *value, void *target)
{
    struct net_config **nets = target;

    *nets = NULL;
    return 0;
}

static int config_read_mac(struct option_reader *r, char *value, void *target)
{
    struct net_config *net = target;

    if (!parse_mac(value, net->mac))
        return option_refuse(r, "'%s' is no address of a card, such as 52:54:00:12:34:56", value);
    net->mac_set = true;
    return 0;
}

static int config_read_forward(struct option_reader *r, char *value, void *target)
{
    struct slirp_forward **forwards = target, *forward = arena_alloc(r->arena, sizeof(*forward));

    if (!forward)
        return log_error(ENOMEM, "--net: hostfwd");
    if (!parse_forward(value, forward))
        return option_refuse(r, "'%s' is not of the form %s", value, r->key->argument);
    list_append(forwards, forward);
    return 0;
}

/* Starts the console afresh, whatever an option before made of it. */
static int config_open_console(struct option_reader *r, enum console_kind kind, void *target)
{
    struct console_config *console = r->filled = target;

    *console = (struct console_config){ .kind = kind, .fd = -1 };
    return 0;
}

static int config_read_console_none(struct option_reader *r, char *value, void *target)
{
    return config_open_console(r, CONSOLE_NONE, target);
}

static int config_read_console_stdio(struct option_reader *r, char *value, void *target)
{
    return config_open_console(r, CONSOLE_STDIO, target);
}

static int config_read_console_file(struct option_reader *r, char *value, void *target)
{
    struct console_config *console = target;

    config_open_console(r, CONSOLE_FILE, console);
    return option_read_text(r, value, &console->path);
}

static int config_read_console_fd(struct option_reader *r, char *value, void *target)
{
    struct console_config *console = target;

    config_open_console(r, CONSOLE_FD, console);
    return option_read_number(r, value, &console->fd);
}

static int config_read_port(struct option_reader *r, char *value, void *target)
{
    struct port_config **ports = target, *port;

    port = r->filled = arena_alloc(r->arena, sizeof(*port));
    if (!port)
        return log_error(ENOMEM, "--port");
    list_append(ports, port);
    port->input = port->output = -1;
    return option_read_text(r, value, &port->name);
}

static const struct option disk_keys[] = {
    { .name = "ro",
      .help = "the guest may only read",
      .read = option_read_flag,
      .at = offsetof(struct disk_config, image.read_only) },
    { .name = "direct",
      .help = "pass by the host's page cache (O_DIRECT)",
      .read = option_read_flag,
      .at = offsetof(struct disk_config, image.direct) },
    { .name = "engine",
      .argument = "auto|io_uring|thread",
      .help = "what carries out the requests; auto takes io_uring where the host allows it",
      .more =
          "thread makes blocking calls on a thread of the disk's own, one at a time. auto takes "
          "it too for what lies on tmpfs, where it is the faster one.",
      .read = option_read_choice,
      .at = offsetof(struct disk_config, image.engine) },
    { .name = "poll",
      .rare = true,
      .argument = "US",
      .help = "microseconds to look for the next request before sleeping, or auto, the default",
      .more = "Saves the guest an exit and the host a wake-up where requests come one after the "
              "other, and costs up to that much CPU time for each. auto looks for up to 32 "
              "microseconds while none is under way, and only as long as most of those that come "
              "after silence come that soon. 0 never looks. A number a little longer than the disk "
              "takes for a request saves the wake-up at its end, too.",
      .read = config_read_poll,
      .max = 10000,
      .at = offsetof(struct disk_config, poll_us) },
    { .name = "serial",
      .argument = "TEXT",
      .help = "what the guest reads as the disk's serial number",
      .read = config_read_array,
      .at = offsetof(struct disk_config, serial),
      .min = 1,
      .max = sizeof(((struct disk_config *)NULL)->serial) - 1 },
    { .name = NULL },
};

static const struct option disk_forms[] = {
    { .name = "path",
      .bare = true,
      .argument = "FILE",
      .help = "the image; may also be written path=FILE",
      .read = config_read_disk,
      .min = 1,
      .keys = disk_keys },
    { .name = NULL },
};

static const struct option user_keys[] = {
    { .name = "hostfwd",
      .repeats = true,
      .argument = "[tcp|udp]:[ADDR:]PORT-:PORT",
      .help = "who connects to the first port, on the host, reaches the second, in the guest; "
              "without ADDR only this host can connect, with 0.0.0.0 everybody",
      .read = config_read_forward,
      .at = offsetof(struct net_config, user.forwards) },
    { .name = "host-loopback",
      .help = "let the guest reach servers on the host's own 127.0.0.1, at the gateway's address",
      .read = option_read_flag,
      .at = offsetof(struct net_config, user.host_loopback) },
    { .name = "mac", .argument = "MAC", .help = "the card's address", .read = config_read_mac },
    { .name = NULL },
};

static const struct option tap_keys[] = {
    { .name = "name",
      .argument = "IFACE",
      .help = "a tap interface of the host that the user may open",
      .read = option_read_text,
      .at = offsetof(struct net_config, tap.interface),
      .min = 1,
      .max = IFNAMSIZ - 1 },
    { .name = "fd",
      .argument = "N",
      .help = "a tap that minivmm inherits as open descriptor N",
      .read = option_read_number,
      .at = offsetof(struct net_config, tap.fd),
      .max = INT_MAX },
    { .name = "vhost",
      .argument = "auto|on|off",
      .help = "whether the host's kernel moves the frames, by vhost-net; auto: if it can",
      .more = "Fewer copies and switches, and more of the kernel that reads what the guest wrote. "
              "--stats does not see those frames.",
      .read = option_read_choice,
      .at = offsetof(struct net_config, vhost) },
    { .name = "mac", .argument = "MAC", .help = "the card's address", .read = config_read_mac },
    { .name = NULL },
};

const struct option config_net_forms[] = {
    { .name = "user",
      .help = "the guest gets an address by DHCP and reaches what minivmm's user can reach; needs "
              "no privilege",
      .read = config_read_user,
      .keys = user_keys },
    { .name = "tap",
      .help = "frames go to a tap interface; one of name and fd is needed",
      .read = config_read_tap,
      .keys = tap_keys },
    { .name = "none",
      .help = "no card, not even those of options before",
      .read = config_read_no_net },
    { .name = NULL },
};

static const struct option share_keys[] = {
    { .name = "tag",
      .argument = "NAME",
      .help = "what the guest calls it: mount -t virtiofs NAME /mnt; without it, as DIR is called",
      .read = config_read_array,
      .at = offsetof(struct share_config, tag),
      .min = 1,
      .max = sizeof(((struct share_config *)NULL)->tag) - 1 },
    { .name = "rw",
      .help = "the guest may write, create and remove, too, as far as minivmm's user may",
      .read = option_read_flag,
      .at = offsetof(struct share_config, directory.writable) },
    { .name = NULL },
};

static const struct option share_forms[] = {
    { .name = "path",
      .bare = true,
      .argument = "DIR",
      .help = "the directory; may also be written path=DIR",
      .read = config_read_share,
      .min = 1,
      .keys = share_keys },
    { .name = NULL },
};

static const struct option file_keys[] = {
    { .name = "append",
      .help = "keep what the file holds",
      .read = option_read_flag,
      .at = offsetof(struct console_config, append) },
    { .name = NULL },
};

static const struct option console_forms[] = {
    { .name = "none", .help = "connected to nothing", .read = config_read_console_none },
    { .name = "stdio",
      .help = "standard input and output, a terminal or not",
      .read = config_read_console_stdio },
    { .name = "file",
      .argument = "PATH",
      .help = "output into a file, which is made or emptied; no input",
      .read = config_read_console_file,
      .min = 1,
      .keys = file_keys },
    { .name = "fd",
      .argument = "N",
      .help = "output to and input from the inherited descriptor N",
      .read = config_read_console_fd,
      .max = INT_MAX },
    { .name = NULL },
};

static const struct option port_keys[] = {
    { .name = "fd",
      .argument = "N",
      .help = "the inherited descriptor N, for what it is open: input to the guest, output, both",
      .read = option_read_number,
      .at = offsetof(struct port_config, input),
      .max = INT_MAX },
    { .name = NULL },
};

static const struct option port_forms[] = {
    { .name = "name",
      .argument = "NAME",
      .help = "what the guest finds it by: /dev/virtio-ports/NAME; fd is needed",
      .read = config_read_port,
      .min = 1,
      .max = 63,
      .keys = port_keys },
    { .name = NULL },
};

static const struct option config_options[] = {
    { .name = "kernel",
      .argument = "FILE",
      .help = "what to boot: a bzImage, a vmlinux or an arm64 Image",
      .read = option_read_text,
      .at = offsetof(struct config, kernel),
      .min = 1 },
    { .name = "initrd",
      .argument = "FILE",
      .help = "initial ramdisk",
      .read = option_read_text,
      .at = offsetof(struct config, initrd),
      .min = 1 },
    { .name = "cmdline",
      .argument = "STRING",
      .help = "kernel command line, in place of the default",
      .read = option_read_text,
      .at = offsetof(struct config, cmdline) },
    { .name = "dtb",
      .argument = "FILE",
      .help = "device tree in place of the machine's own",
      .arch = "aarch64",
      .more = "Only /chosen is filled in: command line, initial ramdisk, seeds.",
      .read = option_read_text,
      .at = offsetof(struct config, dtb),
      .min = 1 },
    { .name = "memory",
      .letter = 'm',
      .argument = "SIZE",
      .help = "RAM, such as 256M or 4G (512M)",
      .more = "K, M, G and T are powers of 1024; a number alone is bytes. The host's memory is "
              "taken only as the guest uses it.",
      .read = option_read_size,
      .at = offsetof(struct config, memory),
      .min = 16 * MIB,
      .max = 16 * 1024 * GIB },
    { .name = "cpus",
      .letter = 'c',
      .argument = "N",
      .help = "virtual CPUs (1)",
      .read = option_read_number,
      .at = offsetof(struct config, cpus),
      .min = 1,
      .max = 1024 },
    { .name = "disk",
      .argument = "DISK",
      .help = "raw image or block device; again for another",
      .more = "The guest finds the disks in the order given. An image is locked: one machine may "
              "write it, or several may read it.",
      .at = offsetof(struct config, disks),
      .forms = disk_forms },
    { .name = "net",
      .argument = "CARD",
      .help = "network card; again for another (user)",
      .at = offsetof(struct config, nets),
      .forms = config_net_forms },
    { .name = "share",
      .argument = "SHARE",
      .help = "directory of the host by its tag; again for another",
      .more =
          "By virtio-fs, served by minivmm itself; needs no privilege. The guest reads, and "
          "with rw changes, what lies beneath the directory and nothing else: links are "
          "followed by the guest, in its own files, and the host's /proc, /sys and their like "
          "are not shown. Users and groups are the host's. New files belong to minivmm's "
          "user, or if that is root, to the user in the guest who made them; set-ID bits of files "
          "are left out. Changes made on "
          "the host are seen a second later at most. All shares together keep as many files open "
          "as half of what the process may (ulimit -n), and 4096 at most.",
      .at = offsetof(struct config, shares),
      .forms = share_forms },
    { .name = "serial",
      .argument = "CONSOLE",
      .help = "first serial port (stdio)",
      .more = "If the console takes stdio and nothing is said of the serial port, it is none.",
      .at = offsetof(struct config, serial),
      .forms = console_forms },
    { .name = "console",
      .argument = "CONSOLE",
      .help = "virtio console, hvc0, as --serial (none)",
      .at = offsetof(struct config, console),
      .forms = console_forms },
    { .name = "port",
      .rare = true,
      .argument = "PORT",
      .help = "stream of bytes between the guest and a descriptor; again for another",
      .more = "The end of the input, or of whoever reads the output, closes the port in the guest: "
              "a program there reads an end of file. When it closes the port, the output ends.",
      .at = offsetof(struct config, ports),
      .forms = port_forms },
    { .name = "no-rng",
      .help = "without the entropy device",
      .read = option_read_no,
      .at = offsetof(struct config, rng) },
    { .name = "no-reboot",
      .help = "a reset ends the machine instead of starting it again",
      .read = option_read_no,
      .at = offsetof(struct config, reboot) },
    { .name = "timeout",
      .argument = "DURATION",
      .help = "end the guest after 30s, 500ms, 5m (never)",
      .more = "A number alone is seconds; 0 is never.",
      .read = option_read_duration,
      .at = offsetof(struct config, timeout_ms) },
    { .name = "grace",
      .argument = "DURATION",
      .help = "from SIGTERM to the guest's end by force (10s)",
      .read = option_read_duration,
      .at = offsetof(struct config, grace_ms) },
    { .name = "log-level",
      .argument = "error|warn|info|debug",
      .help = "what to tell on stderr (warn)",
      .read = option_read_choice,
      .at = offsetof(struct config, log_level) },
    { .name = "stats",
      .help = "print at the end what was counted",
      .more = "On stderr: exits of each vCPU; exits, requests, interrupts and system calls of each "
              "device, and these for each request; bytes of the consoles; the steps of the start. "
              "Calls made inside libslirp, and those by which threads wake each other, are not "
              "seen.",
      .read = option_read_flag,
      .at = offsetof(struct config, stats) },
    { .name = "dry-run",
      .help = "print the machine instead of running it",
      .more = "Memory, devices, their addresses and interrupts.",
      .read = option_read_flag,
      .at = offsetof(struct config, dry_run) },
    { .name = "dump-dtb",
      .argument = "FILE",
      .help = "write the device tree the guest is given",
      .arch = "aarch64",
      .more = "At its start and after each reset.",
      .read = option_read_text,
      .at = offsetof(struct config, dump_dtb),
      .min = 1 },
    { .name = "dump-acpi",
      .argument = "DIR",
      .help = "write the ACPI tables the guest is given",
      .arch = "x86_64",
      .more = "One file a table, named by its signature; the directory is made if need be.",
      .read = option_read_text,
      .at = offsetof(struct config, dump_acpi),
      .min = 1 },
    { .name = "help", .letter = 'h', .help = "print this help", .read = option_print_help },
    { .name = "version", .letter = 'V', .help = "print the version", .read = option_print_version },
    { .name = NULL },
};

const struct option_table config_table = {
    .program = "minivmm",
    .usage = "--kernel FILE [OPTION]...  (Ctrl-A x ends it; see man minivmm)\n"
             "       minivmm run [OPTION]... [CMD [ARG]...]  (see minivmm run --help)",
    .options = config_options,
};

static_assert(sizeof(enum block_engine) == sizeof(unsigned), "option_read_choice stores unsigned");
static_assert(sizeof(enum net_vhost) == sizeof(unsigned), "option_read_choice stores unsigned");
static_assert(sizeof(enum log_level) == sizeof(unsigned), "option_read_choice stores unsigned");

/* The rules between options. */

static bool console_same(const struct console_config *a, const struct console_config *b)
{
    if (a->kind != b->kind || a->kind == CONSOLE_NONE)
        return false;
    return a->kind == CONSOLE_STDIO || (a->kind == CONSOLE_FD && a->fd == b->fd) ||
           (a->kind == CONSOLE_FILE && !strcmp(a->path, b->path));
}

/* Without a tag it is the directory's name, if that says something. */
static int config_name_share(struct share_config *share)
{
    const char *path = share->directory.path;
    size_t end = strlen(path), begin;

    while (end > 0 && path[end - 1] == '/')
        end--;
    for (begin = end; begin > 0 && path[begin - 1] != '/';)
        begin--;
    if (end - begin >= sizeof(share->tag))
        return log_refuse(EINVAL, "--share %s: needs a tag=NAME of at most %zu bytes", path,
                          sizeof(share->tag) - 1);
    memcpy(share->tag, path + begin, end - begin);
    if (!*share->tag || !strcmp(share->tag, ".") || !strcmp(share->tag, ".."))
        return log_refuse(EINVAL, "--share %s: needs a tag=NAME", path);
    return 0;
}

static int config_check_shares(struct config *config)
{
    for (struct share_config *share = config->shares; share; share = share->next) {
        const struct share_config *other = config->shares;

        if (!*share->tag && config_name_share(share))
            return -EINVAL;
        while (strcmp(other->tag, share->tag))
            other = other->next;
        if (other != share)
            return log_refuse(EINVAL, "--share %s: needs a tag=NAME of its own, not '%s'",
                              share->directory.path, share->tag);
    }
    return 0;
}

int config_check_nets(const struct config *config)
{
    for (const struct net_config *net = config->nets; net; net = net->next)
        if (net->kind == NET_TAP && !net->tap.interface == (net->tap.fd < 0))
            return log_refuse(EINVAL, "--net tap: one of name=IFACE and fd=N is needed");
    return 0;
}

static int config_check(struct config *config)
{
    if (!config->kernel)
        return log_refuse(EINVAL, "nothing to boot: --kernel FILE is missing (see minivmm --help)");

    for (struct port_config *port = config->ports; port; port = port->next) {
        if (port->input < 0)
            return log_refuse(EINVAL, "--port name=%s: fd=N is needed", port->name);
        port->output = port->input;
        for (struct port_config *other = port->next; other; other = other->next)
            if (!strcmp(port->name, other->name))
                return log_refuse(EINVAL, "--port name=%s: another has this name", port->name);
    }

    if (config->console.kind == CONSOLE_STDIO && config->serial.implied)
        config->serial.kind = CONSOLE_NONE;
    if (console_same(&config->serial, &config->console))
        return log_refuse(EINVAL, "--console: --serial has the same: one of them needs another");
    return config_check_nets(config) ? -EINVAL : config_check_shares(config);
}

int config_set_defaults(struct config *config)
{
    *config = (struct config){
        .initrd_fd = -1,
        .memory = 512 * MIB,
        .cpus = 1,
        .serial = { .kind = CONSOLE_STDIO, .implied = true, .fd = -1 },
        .console = { .kind = CONSOLE_NONE, .implied = true, .fd = -1 },
        .rng = true,
        .reboot = true,
        .grace_ms = 10 * 1000, /* as docker stop has it */
        .log_level = LOG_LEVEL_WARN,
    };
    config->nets = arena_alloc(&config->arena, sizeof(*config->nets));
    if (!config->nets)
        return log_error(ENOMEM, "command line");
    *config->nets = (struct net_config){ .kind = NET_USER, .implied = true, .tap.fd = -1 };
    return 0;
}

enum config_result config_parse(struct config *config, int argc, char **argv)
{
    struct option_reader reader = { .table = &config_table,
                                    .base = config,
                                    .arena = &config->arena };
    char **words = argv + (argc > 0);
    int result = config_set_defaults(config);

    while (!result && *words)
        result = option_read_next(&reader, &words);
    if (result > 0)
        return CONFIG_DONE;
    if (!result)
        result = config_check(config);
    return result ? CONFIG_USAGE : CONFIG_RUN;
}

void config_finish(struct config *config)
{
    arena_free(&config->arena);
    *config = (struct config){ 0 };
}
