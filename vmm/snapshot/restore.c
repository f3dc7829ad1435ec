/* SPDX-License-Identifier: MIT */

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/cli/boot.h"
#include "vmm/cli/status.h"
#include "vmm/config/config.h"
#include "vmm/config/parse.h"
#include "vmm/config/schema.h"
#include "vmm/core/base.h"
#include "vmm/core/log.h"
#include "vmm/core/open.h"
#include "vmm/machine/snapshot.h"
#include "vmm/snapshot/snapshot_command.h"

/* `minivmm restore`. */
struct restore_options {
    struct config config;
    unsigned real_clock;
};

/* The N-th disk's image. */
static int restore_read_disk(struct option_reader *r, char *value, void *target)
{
    struct restore_options *options = target;
    struct disk_config *disk = options->config.disks;
    char *path = strchr(value, ':');
    uint64_t number;

    if (path)
        *path++ = '\0';
    if (!path || !*path || !parse_number(value, &number))
        return option_refuse(r, "'%s' is not of the form %s", value, r->option->argument);
    while (disk && number-- > 0)
        disk = disk->next;
    if (!disk)
        return option_refuse(r, "the machine has no disk %s", value);
    disk->image.path = path;
    disk->image.place = NULL;
    disk->image.throw_away = false;
    disk->image.max = 0;
    disk->replaced = true;
    return 0;
}

static int restore_read_share(struct option_reader *r, char *value, void *target)
{
    struct restore_options *options = target;
    struct share_config *share = options->config.shares;
    char *path = strchr(value, ':');

    if (path)
        *path++ = '\0';
    if (!path || !*path)
        return option_refuse(r, "'%s' is not of the form %s", value, r->option->argument);
    while (share && strcmp(share->tag, value) != 0)
        share = share->next;
    if (!share)
        return option_refuse(r, "the machine has no share '%s'", value);
    share->directory.path = path;
    return 0;
}

static const struct option restore_list[] = {
    { .name = "disk",
      .argument = "N:FILE",
      .help = "another image for disk N, from 0, with the same contents",
      .read = restore_read_disk },
    { .name = "net",
      .argument = "NIC",
      .help = "NICs instead of the saved ones: as many, in their order",
      .at = offsetof(struct restore_options, config),
      .forms = config_net_forms },
    { .name = "share",
      .argument = "TAG:DIR",
      .help = "another directory for a share",
      .read = restore_read_share },
    { .name = "serial",
      .argument = "CONSOLE",
      .help = "first serial port, as of minivmm (as it was)",
      .at = offsetof(struct restore_options, config.serial),
      .forms = config_console_forms },
    { .name = "console",
      .argument = "CONSOLE",
      .help = "virtio console, likewise",
      .at = offsetof(struct restore_options, config.console),
      .forms = config_console_forms },
    { .name = "clock",
      .argument = "stopped|real",
      .help = "the guest's clock goes on where it stopped, or as if it had not (stopped)",
      .more = "real needs a guest that takes its time from kvm-clock.",
      .read = option_read_choice,
      .at = offsetof(struct restore_options, real_clock) },
    { .name = "control",
      .argument = "PATH",
      .help = "control socket, as of minivmm",
      .read = config_read_control,
      .at = offsetof(struct restore_options, config.control),
      .min = 1 },
    { .name = "no-reboot",
      .help = "a reset ends the machine instead of rebooting it",
      .read = option_read_negated,
      .at = offsetof(struct restore_options, config.reboot) },
    { .name = "timeout",
      .argument = "DURATION",
      .help = "end the guest after 30s, 500ms, 5m (never)",
      .read = option_read_duration,
      .at = offsetof(struct restore_options, config.timeout_ms) },
    { .name = "grace",
      .argument = "DURATION",
      .help = "from SIGTERM until the guest is stopped (10s)",
      .read = option_read_duration,
      .at = offsetof(struct restore_options, config.grace_ms) },
    { .name = "sandbox",
      .argument = "auto|on|off|strict",
      .help = "as of minivmm (auto)",
      .read = option_read_choice,
      .at = offsetof(struct restore_options, config.sandbox) },
    { .name = "log-level",
      .argument = "error|warn|info|debug",
      .help = "what to print on stderr (warn)",
      .read = option_read_choice,
      .at = offsetof(struct restore_options, config.log_level) },
    { .name = "stats",
      .help = "print counters at the end",
      .read = option_read_flag,
      .at = offsetof(struct restore_options, config.stats) },
    { .name = "help", .letter = 'h', .help = "print this help", .read = option_print_help },
    { .name = NULL },
};

const struct option_table restore_table = {
    .program = "minivmm restore",
    .usage = "DIR [OPTION]...  (of minivmm snapshot; see man minivmm)",
    .options = restore_list,
};

static unsigned restore_count_nets(const struct config *config)
{
    unsigned count = 0;

    for (const struct net_config *net = config->nets; net; net = net->next)
        count++;
    return count;
}

/* The guest's driver has read its NICs' addresses, and would not read others. As many as saved. */
static int restore_keep_macs(struct net_config *net, const struct net_config *saved)
{
    for (unsigned i = 0; net; net = net->next, saved = saved->next, i++) {
        uint8_t mac[6];

        config_choose_mac(mac, saved, i);
        if (net->mac_set && memcmp(net->mac, mac, sizeof(mac)) != 0)
            return log_refuse(EINVAL,
                              "--net: the guest knows NIC %u by %02x:%02x:%02x:%02x:%02x:%02x, and "
                              "would not notice another mac",
                              i, mac[0], mac[1], mac[2], mac[3], mac[4], mac[5]);
        memcpy(net->mac, mac, sizeof(mac));
        net->mac_set = true;
    }
    return 0;
}

/* A virtio console cannot come or go; connected to nothing it is a descriptor that is not there. */
static int restore_check_console(struct console_config *console, bool had_one)
{
    if (console->kind != CONSOLE_NONE && !had_one)
        return log_refuse(EINVAL, "--console: the machine has no virtio console");
    if (console->kind == CONSOLE_NONE && had_one)
        *console = (struct console_config){ .kind = CONSOLE_FD, .fd = -1 };
    return 0;
}

/* "fd=STATE,fd=MEMORY[,fd=DISK]...": open files instead of DIR. */
static bool restore_names_files(const char *word)
{
    return strncmp(word, "fd=", 3) == 0;
}

static int restore_read_files(struct snapshot_files *ret, const char *word)
{
    for (; *word; word += *word == ',') {
        char *end;
        long fd = restore_names_files(word) ? strtol(word + 3, &end, 10) : -1;

        if (fd < 0 || fd > INT_MAX || end == word + 3 || (*end && *end != ',') ||
            ret->count == ARRAY_SIZE(ret->fds))
            return log_refuse(EINVAL, "expected fd=STATE,fd=MEMORY[,fd=DISK]..., not '%s'", word);
        ret->fds[ret->count++] = (int)fd;
        word = end;
    }
    return ret->count >= SNAPSHOT_FD_DISKS ? 0 : log_refuse(EINVAL, "expected fd=STATE,fd=MEMORY");
}

static int restore_open(struct snapshot *snap, const struct snapshot_files *files, const char *from)
{
    return files->count ? snapshot_open_files(snap, files, "the snapshot")
                        : snapshot_open(snap, from);
}

/* The N-th disk's copy. `from` names the snapshot's directory; NULL: it is an open file. */
static int restore_choose_disk(struct config *config, struct block_options *image, int fd,
                               unsigned number, const char *from)
{
    size_t size = (from ? strlen(from) : 0) + 32;
    char *path = arena_alloc(&config->arena, size);
    char *place = arena_alloc(&config->arena, sizeof(struct fd_path));

    if (!path || !place)
        return log_error(ENOMEM, "disk %u", number);
    if (fd < 0 && !from)
        return log_refuse(EINVAL, "no file for disk %u", number);
    if (from)
        snprintf(path, size, "%s/" SNAPSHOT_DISK, from, number);
    memcpy(place, fd_path(fd).text, sizeof(struct fd_path));
    image->path = from ? path : place;
    image->place = fd < 0 ? "" : place; /* --disk may name another; "" is not there */
    image->throw_away = image->format_raw = true;
    image->direct = false; /* the copy may be in memory */
    return 0;
}

/*
 * A disk that the guest could write is the snapshot's copy, of which any number of machines may
 * start: each keeps its own writes in memory.
 */
static int restore_choose_disks(struct config *config, const struct snapshot_files *files,
                                const char *from)
{
    unsigned number = 0, file = SNAPSHOT_FD_DISKS;
    int error = 0;

    for (struct disk_config *disk = config->disks; disk && !error; disk = disk->next, number++) {
        int fd = file < files->count ? files->fds[file] : -1;

        if (disk->image.read_only)
            continue;
        error = restore_choose_disk(config, &disk->image, fd, number, from);
        file++;
    }
    return error;
}

/* The options change what the snapshot says. */
static int restore_read_options(struct restore_options *options, char **words)
{
    struct option_reader reader = { .table = &restore_table,
                                    .base = options,
                                    .arena = &options->config.arena };
    static struct net_config unchanged = { .implied = true };
    struct net_config *saved = options->config.nets;
    unsigned count = restore_count_nets(&options->config);
    bool had_console = options->config.console.kind != CONSOLE_NONE;
    int result = 0;

    options->config.nets = &unchanged; /* --net replaces it */
    while (!result && *words)
        result = option_read_next(&reader, &words);
    if (result)
        return result;
    if (options->config.nets == &unchanged)
        options->config.nets = saved;
    else if (restore_count_nets(&options->config) != count)
        return log_refuse(EINVAL, "--net: the machine has %u NICs; name each", count);
    result = restore_keep_macs(options->config.nets, saved);
    if (!result)
        result = restore_check_console(&options->config.console, had_console);
    return result ? result : config_check(&options->config);
}

int restore_main(int argc, char **argv)
{
    struct restore_options options = { .real_clock = 0 };
    struct snapshot snap = { .directory = -1 };
    struct snapshot_files files = { .count = 0 }; /* that are open */
    int status = STATUS_FAILED, result;

    if (argc > 1 && (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h"))) {
        struct option_reader reader = { .table = &restore_table };

        option_print_help(&reader, NULL, NULL);
        return EXIT_SUCCESS;
    }
    if (argc < 2 || argv[1][0] == '-') {
        log_refuse(EINVAL, "expected a snapshot's directory first (see %s --help)",
                   restore_table.program);
        return STATUS_USAGE;
    }
    if (restore_names_files(argv[1]) && restore_read_files(&files, argv[1]) < 0)
        return STATUS_USAGE;
    if (config_set_defaults(&options.config) == 0 && restore_open(&snap, &files, argv[1]) == 0 &&
        snapshot_load_config(&snap, &options.config) == 0 &&
        restore_choose_disks(&options.config, &snap.files, files.count ? NULL : argv[1]) == 0) {
        result = restore_read_options(&options, argv + 2);
        log_set_level(options.config.log_level);
        snap.real_clock = options.real_clock;
        status = result > 0   ? EXIT_SUCCESS
                 : result < 0 ? STATUS_USAGE
                              : boot_run(&options.config, &snap);
    }
    snapshot_close(&snap);
    config_finish(&options.config);
    return status;
}
