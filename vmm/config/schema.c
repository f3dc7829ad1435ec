/* SPDX-License-Identifier: MIT */
#include "vmm/config/schema.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "vmm/config/config.h"
#include "vmm/config/parse.h"
#include "vmm/core/base.h"

/* read() of forms: each creates a disk, NIC, share, ... in `filled`, which its keys store to. */

static int config_read_disk(struct option_reader *r, char *value, void *target)
{
    struct disk_config *disk = r->filled = config_add_disk(target);

    return disk ? option_read_text(r, value, &disk->image.path) : -ENOMEM;
}

static int config_read_format(struct option_reader *r, char *value, void *target)
{
    bool *raw = target;

    if (strcmp(value, "raw") != 0)
        return option_refuse(r, "'%s' cannot be read; convert the image: qemu-img convert -O raw",
                             value);
    *raw = true;
    return 0;
}

static int config_read_poll(struct option_reader *r, char *value, void *target)
{
    int *poll_us = target;

    if (strcmp(value, "auto") != 0)
        return option_read_number(r, value, poll_us);
    *poll_us = -1;
    return 0;
}

/* Copies the text to an array of at least the option's `max` + 1 bytes. */
static int config_read_array(struct option_reader *r, char *value, void *target)
{
    const char *text;
    int error = option_read_text(r, value, &text);

    if (!error)
        strcpy(target, text);
    return error;
}

static int config_read_share(struct option_reader *r, char *value, void *target)
{
    struct share_config *share = r->filled = config_add_share(target);

    return share ? option_read_text(r, value, &share->directory.path) : -ENOMEM;
}

static int config_read_user(struct option_reader *r, char *value, void *target)
{
    r->filled = config_add_net(target, NET_USER);
    return r->filled ? 0 : -ENOMEM;
}

static int config_read_cpus(struct option_reader *r, char *value, void *target)
{
    struct config *config = r->filled = target;

    config->nested = config->pmu = false;
    return option_read_number(r, value, &config->cpus);
}

static int config_read_tap(struct option_reader *r, char *value, void *target)
{
    r->filled = config_add_net(target, NET_TAP);
    return r->filled ? 0 : -ENOMEM;
}

static int config_read_no_net(struct option_reader *r, char *value, void *target)
{
    struct config *config = target;

    config->nets = NULL;
    return 0;
}

static int config_read_mac(struct option_reader *r, char *value, void *target)
{
    struct net_config *net = target;

    if (!parse_mac(value, net->mac))
        return option_refuse(r, "'%s' is not a NIC's MAC address, such as 52:54:00:12:34:56",
                             value);
    net->mac_set = true;
    return 0;
}

/* Overrides what an earlier option has set. */
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

/* Whoever saves the machine must know what relative paths meant. */
int config_read_control(struct option_reader *r, char *value, void *target)
{
    struct config *config = r->base; /* of all tables with this option */
    char directory[PATH_MAX];
    char *copy;

    if (!getcwd(directory, sizeof(directory)))
        return log_error(errno, "--control: working directory");
    copy = arena_alloc(r->arena, strlen(directory) + 1);
    if (!copy)
        return log_error(ENOMEM, "--control");
    config->directory = strcpy(copy, directory);
    config->saves = true;
    return option_read_text(r, value, target);
}

static int config_read_port(struct option_reader *r, char *value, void *target)
{
    struct port_config *port = r->filled = config_add_port(target);

    return port ? option_read_text(r, value, &port->name) : -ENOMEM;
}

static int config_read_port_fd(struct option_reader *r, char *value, void *target)
{
    struct port_config *port = target;
    int error = option_read_number(r, value, &port->input);

    port->output = port->input;
    return error;
}

static const struct option disk_keys[] = {
    { .name = "ro",
      .help = "the guest may only read",
      .read = option_read_flag,
      .at = offsetof(struct disk_config, image.read_only) },
    { .name = "throw-away",
      .help = "the image stays as it is: what the guest writes is in memory, and lost at the end",
      .more = "The image is only read, so several machines may use it at once.",
      .read = option_read_flag,
      .at = offsetof(struct disk_config, image.throw_away) },
    { .name = "max",
      .argument = "SIZE",
      .help = "with throw-away: how much of that memory there is, such as 4G (1G)",
      .more = "It is allocated as the guest writes, in pages, and given back as the guest "
              "discards. When it is full, writes fail in the guest, and a warning says so once.",
      .read = option_read_size,
      .at = offsetof(struct disk_config, image.max),
      .min = 1 * MIB,
      .max = CONFIG_MAX_SIZE },
    { .name = "format",
      .argument = "raw",
      .help = "take the file as a raw image whatever it looks like",
      .more = "Otherwise an image of another format (qcow2, VHD, VHDX, VMDK, VDI and others), or a "
              "compressed one, is refused: the guest would destroy it. A guest that writes such a "
              "format's magic bytes to a raw disk has this effect, too.",
      .read = config_read_format,
      .at = offsetof(struct disk_config, image.format_raw) },
    { .name = "direct",
      .help = "bypass the host's page cache (O_DIRECT)",
      .read = option_read_flag,
      .at = offsetof(struct disk_config, image.direct) },
    { .name = "engine",
      .rare = true,
      .argument = "auto|io_uring|thread",
      .help = "how requests are executed; auto uses io_uring where the host allows it",
      .more = "thread makes blocking calls on the disk's own thread, one at a time. auto uses it, "
              "too, for an image on tmpfs, where it is faster.",
      .read = option_read_choice,
      .at = offsetof(struct disk_config, image.engine) },
    { .name = "poll",
      .rare = true,
      .argument = "US",
      .help = "microseconds to poll for the next request before sleeping, or auto, the default",
      .more = "Polling saves the guest an exit and the host a wake-up if requests come one after "
              "the other, and costs up to that much CPU time for each. auto is adaptive: it polls "
              "for up to 32 microseconds while no request is in flight, and only as long as most "
              "requests arrive within that time. 0 disables polling. A number a little longer than "
              "the disk takes for a request saves the wake-up at its completion, too.",
      .read = config_read_poll,
      .max = CONFIG_MAX_POLL,
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

const struct option config_disk_forms[] = {
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
      .help = "forward connections to the first port, on the host, to the second, in the guest; "
              "without ADDR only this host can connect, with 0.0.0.0 any host",
      .read = option_read_forward,
      .at = offsetof(struct net_config, user.network.forwards) },
    { .name = "host-loopback",
      .help =
          "let the guest reach the host: 127.0.0.1 at the gateway's address, others as they are",
      .read = option_read_flag,
      .at = offsetof(struct net_config, user.network.host_loopback) },
    { .name = "mac", .argument = "MAC", .help = "the NIC's address", .read = config_read_mac },
    { .name = "fd",
      .rare = true,
      .argument = "N",
      .help = "the network is that of a minivmm-net(1) which somebody else has started: the open "
              "descriptor of its socket's other end",
      .more = "For a minivmm that cannot start it, as in a container without its libraries. The "
              "other process has hostfwd and host-loopback then.",
      .read = option_read_number,
      .at = offsetof(struct net_config, user.fd),
      .max = INT_MAX },
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
      .help = "the host's kernel moves the frames, by vhost-net",
      .more = "That means fewer copies and context switches. But then the host's kernel, and "
              "not minivmm, reads the rings and the frames' headers as the guest wrote them, and "
              "must withstand what a hostile guest writes there: only for guests that one trusts. "
              "--stats does not count those frames.",
      .read = option_read_flag,
      .at = offsetof(struct net_config, vhost) },
    { .name = "mac", .argument = "MAC", .help = "the NIC's address", .read = config_read_mac },
    { .name = NULL },
};

const struct option config_net_forms[] = {
    { .name = "user",
      .help =
          "the guest gets an address by DHCP and reaches what minivmm's user can reach, but not "
          "the host; needs no privilege",
      .read = config_read_user,
      .keys = user_keys },
    { .name = "tap",
      .help = "frames go to a tap interface; needs either name or fd",
      .read = config_read_tap,
      .keys = tap_keys },
    { .name = "none",
      .help = "no NIC, not even those of earlier options",
      .read = config_read_no_net },
    { .name = NULL },
};

static const struct option cpus_keys[] = {
    { .name = "nested",
      .help = "the guest may run virtual machines of its own",
      .more = "Off by default: the part of KVM that this opens to the guest is large. Refused if "
              "the host's KVM does not offer it.",
      .read = option_read_flag,
      .at = offsetof(struct config, nested) },
    { .name = "pmu",
      .help = "the guest has the performance counters that the host's KVM offers",
      .more = "Off by default: they measure what else happens on the host's CPUs.",
      .read = option_read_flag,
      .at = offsetof(struct config, pmu) },
    { .name = NULL },
};

const struct option config_cpus_forms[] = {
    { .name = "count",
      .bare = true,
      .rare = true,
      .argument = "N",
      .help = "how many; where the host has core scheduling, they share a core with no other "
              "process",
      .read = config_read_cpus,
      .min = 1,
      .max = CONFIG_MAX_CPUS,
      .keys = cpus_keys },
    { .name = NULL },
};

static const struct option share_keys[] = {
    { .name = "tag",
      .argument = "NAME",
      .help = "the name in the guest: mount -t virtiofs NAME /mnt; the default is DIR's own name",
      .read = config_read_array,
      .at = offsetof(struct share_config, tag),
      .min = 1,
      .max = sizeof(((struct share_config *)NULL)->tag) - 1 },
    { .name = "rw",
      .help = "the guest may also write, create and remove, as far as minivmm's user may",
      .read = option_read_flag,
      .at = offsetof(struct share_config, directory.writable) },
    { .name = "guarded",
      .rare = true,
      .help = "with rw: the guest cannot leave what misleads whoever walks the directory",
      .more = "Refused are symbolic links that are absolute or climb out of the directory, and "
              "names and links with control characters. A directory or link that would move up, "
              "and could lead out then, is to be copied instead (EXDEV), as mv does.",
      .read = option_read_flag,
      .at = offsetof(struct share_config, directory.guarded) },
    { .name = "uid",
      .argument = "ID",
      .help = "the guest's user who has the files of minivmm's user, unless that is root (0)",
      .read = option_read_number,
      .at = offsetof(struct share_config, directory.guest_uid),
      .max = CONFIG_MAX_OWNER },
    { .name = "gid",
      .argument = "ID",
      .help = "the same for the group of minivmm's user (0)",
      .read = option_read_number,
      .at = offsetof(struct share_config, directory.guest_gid),
      .max = CONFIG_MAX_OWNER },
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
      .help = "keep the file's contents",
      .read = option_read_flag,
      .at = offsetof(struct console_config, append) },
    { .name = "max",
      .argument = "SIZE",
      .help = "how large the file may grow, such as 10M (without a limit)",
      .more = "What the guest writes then is dropped, and the guest goes on; a warning says so "
              "once. With append, what was in the file counts.",
      .read = option_read_size,
      .at = offsetof(struct console_config, max),
      .min = 1 * MIB,
      .max = CONFIG_MAX_SIZE },
    { .name = NULL },
};

const struct option config_console_forms[] = {
    { .name = "none", .help = "connected to nothing", .read = config_read_console_none },
    { .name = "stdio",
      .help = "standard input and output, a terminal or not",
      .read = config_read_console_stdio },
    { .name = "file",
      .argument = "PATH",
      .help = "output to a file, which is created or truncated; no input",
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
      .help = "the inherited descriptor N; its access mode decides: input to the guest, output, "
              "both",
      .read = config_read_port_fd,
      .max = INT_MAX },
    { .name = NULL },
};

static const struct option port_forms[] = {
    { .name = "name",
      .argument = "NAME",
      .help = "the name in the guest: /dev/virtio-ports/NAME; needs fd",
      .read = config_read_port,
      .min = 1,
      .max = CONFIG_MAX_PORT,
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
      .help = "kernel command line, instead of the default",
      .read = option_read_text,
      .at = offsetof(struct config, cmdline) },
    { .name = "dtb",
      .rare = true,
      .argument = "FILE",
      .help = "device tree instead of the generated one",
      .arch = "aarch64",
      .more = "Only /chosen is filled in: command line, initial ramdisk, seeds.",
      .read = option_read_text,
      .at = offsetof(struct config, dtb),
      .min = 1 },
    { .name = "memory",
      .letter = 'm',
      .argument = "SIZE",
      .help = "RAM, such as 256M or 4G (512M)",
      .more = "K, M, G and T are powers of 1024; a number alone is bytes. The host allocates "
              "memory only as the guest uses it.",
      .read = option_read_size,
      .at = offsetof(struct config, memory),
      .min = CONFIG_MIN_MEMORY,
      .max = CONFIG_MAX_SIZE },
    { .name = "cpus",
      .letter = 'c',
      .argument = "N",
      .help = "virtual CPUs (1)",
      .forms = config_cpus_forms },
    { .name = "disk",
      .argument = "DISK",
      .help = "raw image or block device; again for another",
      .more = "The guest finds the disks in the order given. An image is locked: either one "
              "machine may write it, or several may read it (ro, throw-away).",
      .forms = config_disk_forms },
    { .name = "net",
      .argument = "NIC",
      .help = "network device; again for another (user)",
      .forms = config_net_forms },
    { .name = "share",
      .argument = "SHARE",
      .help = "directory of the host; again for another",
      .more =
          "Shared by virtio-fs, served by minivmm itself; needs no privilege. The guest can read, "
          "and with rw change, what lies beneath the directory and nothing else: links are "
          "followed by the guest, in its own files, and file systems such as the host's /proc "
          "and /sys are not shown. If minivmm runs as root, users and groups are the host's, by "
          "number. Otherwise the files of minivmm's user are root's in the guest, or another "
          "user's (uid, gid); other numbers are the host's. What the host refuses, such as files "
          "that belong to further users of the guest, is remembered for the guest until minivmm "
          "ends, for at most 262144 files. So are set-ID bits of files, which are never set on "
          "the host; a warning says so once. Pipes and sockets are the guest's own, devices "
          "cannot be created. Extended attributes named user.* and access control lists are "
          "the host's; others are neither shown nor set. Changes made on the host are visible "
          "after a second at most. All shares "
          "together keep at most half of the process's file descriptors (ulimit -n) open, and at "
          "most 4096.",
      .forms = share_forms },
    { .name = "serial",
      .argument = "CONSOLE",
      .help = "first serial port (stdio)",
      .more = "If the console uses stdio, the default is none.",
      .at = offsetof(struct config, serial),
      .forms = config_console_forms },
    { .name = "console",
      .argument = "CONSOLE",
      .help = "virtio console, hvc0, as --serial (none)",
      .at = offsetof(struct config, console),
      .forms = config_console_forms },
    { .name = "port",
      .rare = true,
      .argument = "PORT",
      .help = "stream of bytes between the guest and a descriptor; again for another",
      .more = "When the input ends, or the reader of the output goes away, the port closes in the "
              "guest: a program there reads an end of file. When the guest closes the port, the "
              "output ends.",
      .forms = port_forms },
    { .name = "no-rng",
      .rare = true,
      .help = "no entropy device",
      .read = option_read_negated,
      .at = offsetof(struct config, rng) },
    { .name = "balloon",
      .rare = true,
      .help = "memory that the guest frees goes back to the host",
      .more = "A virtio balloon with free page reporting: Linux 5.7 and later reports what has "
              "been free for two seconds, in pieces of some megabytes. Memory that it uses again "
              "is allocated again. A kernel that clears pages when they are freed "
              "(init_on_free=1) reports none. The device never asks the guest for memory.",
      .read = option_read_flag,
      .at = offsetof(struct config, balloon) },
    { .name = "no-reboot",
      .help = "a reset ends the machine instead of rebooting it",
      .read = option_read_negated,
      .at = offsetof(struct config, reboot) },
    { .name = "timeout",
      .argument = "DURATION",
      .help = "end the guest after 30s, 500ms, 5m (never)",
      .more = "A number alone is seconds; 0 is never.",
      .read = option_read_duration,
      .at = offsetof(struct config, timeout_ms) },
    { .name = "grace",
      .rare = true,
      .argument = "DURATION",
      .help = "from SIGTERM until the guest is stopped (10s)",
      .read = option_read_duration,
      .at = offsetof(struct config, grace_ms) },
    { .name = "sandbox",
      .rare = true,
      .argument = "auto|on|off|strict",
      .help = "what minivmm itself may do while a guest runs (auto)",
      .more =
          "Before the guest runs, minivmm opens all that it needs and gives up the rest: "
          "privileges; all files but shared directories (Landlock); all system calls but those in "
          "its tables (seccomp), of which the threads of vCPUs keep fewest. It cannot be traced "
          "and leaves no core dump. auto "
          "does without what the host lacks and warns; on refuses to start then. strict adds "
          "namespaces without files, networks and other processes' objects, which not every host "
          "allows an ordinary user; files of further users then are nobody's (65534) in the guest. "
          "off is for debuggers and strace(1).",
      .read = option_read_choice,
      .at = offsetof(struct config, sandbox) },
    { .name = "log-level",
      .argument = "error|warn|info|debug",
      .help = "what to print on stderr (warn)",
      .read = option_read_choice,
      .at = offsetof(struct config, log_level) },
    { .name = "control",
      .rare = true,
      .argument = "PATH",
      .help = "socket by which minivmm snapshot(1) and others command the machine",
      .more =
          "Whoever may write to it can read all of the guest's memory: it has the mode 0600, and "
          "others than the user and root are refused. What a killed machine left is replaced. "
          "The requests are HTTP with JSON, of the form of Firecracker's API.",
      .read = config_read_control,
      .at = offsetof(struct config, control),
      .min = 1 },
    { .name = "stats",
      .rare = true,
      .help = "print counters at the end",
      .more = "On stderr: exits of each vCPU; exits, requests, interrupts and system calls of each "
              "device, in total and per request; bytes of the consoles; the duration of each step "
              "of the start. System calls inside libslirp, and those that wake other threads, are "
              "not counted.",
      .read = option_read_flag,
      .at = offsetof(struct config, stats) },
    { .name = "dry-run",
      .help = "print the machine instead of running it",
      .more =
          "Memory, devices, their addresses and interrupts. A kernel, initial ramdisk or command "
          "line that could not be booted is refused. Neither KVM nor the files of other devices "
          "are needed.",
      .read = option_read_flag,
      .at = offsetof(struct config, dry_run) },
    { .name = "dump-dtb",
      .rare = true,
      .argument = "FILE",
      .help = "write the guest's device tree to a file",
      .arch = "aarch64",
      .more = "At the start and after each reset. Only the user may read a new file, as the "
              "guest's seeds are in it.",
      .read = option_read_text,
      .at = offsetof(struct config, dump_dtb),
      .min = 1 },
    { .name = "dump-acpi",
      .rare = true,
      .argument = "DIR",
      .help = "write the guest's ACPI tables to files",
      .arch = "x86_64",
      .more = "One file for each table, named by its signature; the directory is created if "
              "necessary. Only the user may read new files.",
      .read = option_read_text,
      .at = offsetof(struct config, dump_acpi),
      .min = 1 },
    { .name = "help", .letter = 'h', .help = "print this help", .read = option_print_help },
    { .name = "version", .letter = 'V', .help = "print the version", .read = option_print_version },
    { .name = NULL },
};

const struct option_table config_table = {
    .program = "minivmm",
    .usage = "--kernel FILE [OPTION]...  (Ctrl-A x ends it; more: man minivmm)\n"
             "       minivmm run [OPTION]... [CMD [ARG]...]  (see minivmm run --help)",
    .options = config_options,
};

static_assert(sizeof(enum block_engine) == sizeof(unsigned), "option_read_choice stores unsigned");
static_assert(sizeof(enum sandbox_mode) == sizeof(unsigned), "option_read_choice stores unsigned");
static_assert(sizeof(enum log_level) == sizeof(unsigned), "option_read_choice stores unsigned");

/* What somebody writes who does not know the options yet. */
static int config_refuse_word(const char *word)
{
    if (!strcmp(word, "run"))
        return log_refuse(EINVAL, "run must be the first word: minivmm run [OPTION]... CMD");
    return log_refuse(EINVAL, "unexpected argument '%s'; --kernel names a kernel (see %s --help)",
                      word, config_table.program);
}

enum config_result config_parse(struct config *config, const struct option_table *other, int argc,
                                char **argv)
{
    struct option_reader reader = {
        .table = &config_table, .other = other, .base = config, .arena = &config->arena
    };
    char **words = argv + (argc > 0);
    int result = config_set_defaults(config);

    while (!result && *words)
        result =
            (*words)[0] == '-' ? option_read_next(&reader, &words) : config_refuse_word(*words);
    if (result > 0)
        return CONFIG_DONE;
    if (!result) {
        config_complete(config);
        result = config_check(config);
    }
    return result == 0 ? CONFIG_RUN : result == -EINVAL ? CONFIG_USAGE : CONFIG_FAILED;
}
