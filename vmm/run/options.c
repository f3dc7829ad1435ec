/* SPDX-License-Identifier: MIT */
#include "vmm/run/options.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "vmm/config/option.h"
#include "vmm/core/arena.h"
#include "vmm/core/base.h"
#include "vmm/core/log.h"
#include "vmm/run/warm.h"

#define DEFAULT_MEMORY       (1 * GIB)
#define DEFAULT_BOOT_TIMEOUT 60000 /* ms; enough for nested or emulated hosts */
#define DEFAULT_GRACE        10000 /* ms, as for a plain machine */

/* Appends a value to a list. */
static int run_options_read_word(struct option_reader *r, char *value, void *target)
{
    struct run_word **words = target, *word = arena_alloc(r->arena, sizeof(*word));

    if (!word)
        return log_error(ENOMEM, "--%s", r->option->name);
    list_append(words, word);
    r->filled = word;
    return option_read_text(r, value, &word->text);
}

static int run_options_read_rw(struct option_reader *r, char *value, void *target)
{
    int error = run_options_read_word(r, value, target);

    if (!error)
        ((struct run_word *)r->filled)->writable = true;
    return error;
}

static int run_options_read_env(struct option_reader *r, char *value, void *target)
{
    if (*value == '=')
        return option_refuse(r, "'%s' is not of the form %s", value, r->option->argument);
    return run_options_read_word(r, value, target);
}

static const struct option run_options_list[] = {
    { .name = "kernel",
      .argument = "FILE",
      .help = "kernel to boot; can be repeated (this host's)",
      .more = "The default is the running kernel, else the newest that is readable; --verbose "
              "tells which. With several kernels, the command is run once under each.",
      .read = run_options_read_word,
      .at = offsetof(struct run_options, kernels),
      .min = 1 },
    { .name = "modules",
      .argument = "DIR",
      .help = "the kernel's modules, or none (lib/modules beside it)",
      .more = "The directory itself, or one with lib/modules/VERSION in it. none is for a kernel "
              "that has "
              "all drivers built in; with another one the run fails, with status 125.",
      .read = option_read_text,
      .at = offsetof(struct run_options, modules),
      .min = 1 },
    { .name = "root",
      .argument = "DIR",
      .help = "the guest's root directory, read-only (/)",
      .more = "The guest's changes stay in its memory and are lost at the end. /dev, /proc, /sys "
              "and /run are the guest's own; /run shows programs and disks that the host has "
              "there (current-system, wrappers, media and the like).",
      .read = option_read_text,
      .at = offsetof(struct run_options, root),
      .min = 1 },
    { .name = "ro",
      .argument = "DIR[:GUESTDIR]",
      .help = "share a directory read-only; can be repeated",
      .more = "GUESTDIR must begin with a slash; the default is the same path as on the host.",
      .read = run_options_read_word,
      .at = offsetof(struct run_options, shares),
      .min = 1 },
    { .name = "rw",
      .argument = "DIR[:GUESTDIR]",
      .help = "share a directory for writing; can be repeated",
      .read = run_options_read_rw,
      .at = offsetof(struct run_options, shares),
      .min = 1 },
    { .name = "guarded",
      .rare = true,
      .help = "in --rw, no links that lead out, no control characters in names",
      .more = "As with --share DIR,rw,guarded.",
      .read = option_read_flag,
      .at = offsetof(struct run_options, guarded) },
    { .name = "memory",
      .letter = 'm',
      .argument = "SIZE",
      .help = "RAM, such as 256M or 4G (1G)",
      .read = option_read_size,
      .at = offsetof(struct run_options, machine.memory),
      .min = 64 * MIB,
      .max = 16 * 1024 * GIB },
    { .name = "cpus",
      .letter = 'c',
      .argument = "N",
      .help = "virtual CPUs (1)",
      .more = "As without run.",
      .at = offsetof(struct run_options, machine),
      .forms = config_cpus_forms },
    { .name = "disk",
      .argument = "DISK",
      .help = "raw image or block device, /dev/vda; can be repeated",
      .more = "It is not mounted: CMD may do that.",
      .at = offsetof(struct run_options, machine),
      .forms = config_disk_forms },
    { .name = "net",
      .argument = "NIC",
      .help = "NIC; user is configured in the guest (none)",
      .more = "Its values are those without run.",
      .at = offsetof(struct run_options, machine),
      .forms = config_net_forms },
    { .name = "warm",
      .help = "go on from a machine that has booted before",
      .more =
          "The first such run boots, and saves the machine before it knows anything of the "
          "command; later ones with the same kernel, memory, CPUs, NICs and kind of terminal "
          "go on from there. Each gets random numbers and the time of its own. The machines are "
          "in $XDG_CACHE_HOME/minivmm/warm (~/.cache), at most 1 GiB together; minivmm warm "
          "lists and removes them. If that is not possible the run boots; --verbose says why.",
      .read = option_read_flag,
      .at = offsetof(struct run_options, warm) },
    { .name = "from",
      .argument = "NAME",
      .help = "go on from the machine of minivmm warm NAME",
      .more =
          "Kernel, memory, CPUs, NICs, disks, root and shares are those of that machine, and so "
          "is the default of --cwd.",
      .read = option_read_text,
      .at = offsetof(struct run_options, from),
      .min = 1 },
    { .name = "on-fork",
      .rare = true,
      .argument = "COMMAND",
      .help = "of minivmm warm NAME: what each run from it does before CMD",
      .more = "The guest's /bin/sh runs it as root, with the environment of CMD, and with CMD's "
              "standard error as its output; if it does not exit with 0 the run fails with status "
              "125. It is for what must differ between machines, such as host keys and "
              "/etc/machine-id. The processes that are there already do not wait for it.",
      .read = option_read_text,
      .at = offsetof(struct run_options, on_fork),
      .min = 1 },
    { .name = "timeout",
      .argument = "TIME",
      .help = "end a run after 30s, 500ms, 5m (never)",
      .read = option_read_duration,
      .at = offsetof(struct run_options, timeout_ms) },
    { .name = "boot-timeout",
      .rare = true,
      .argument = "TIME",
      .help = "time limit until CMD starts (60s)",
      .more = "0 means no limit.",
      .read = option_read_duration,
      .at = offsetof(struct run_options, boot_timeout_ms) },
    { .name = "grace",
      .rare = true,
      .argument = "TIME",
      .help = "from SIGTERM until the machine is ended (10s)",
      .read = option_read_duration,
      .at = offsetof(struct run_options, grace_ms) },
    { .name = "user",
      .argument = "USER",
      .help = "user to run CMD as, in the guest (root)",
      .more =
          "NAME, UID or UID:GID. Names are looked up in etc/passwd and etc/group below the root "
          "directory; a UID that is not there has the group of the same number. On the host, the "
          "guest's accesses have the permissions of minivmm's user.",
      .read = option_read_text,
      .at = offsetof(struct run_options, user),
      .min = 1 },
    { .name = "cwd",
      .argument = "DIR",
      .help = "working directory in the guest (this one)",
      .more = "An absolute path. A directory that the guest does not have, or that CMD's user may "
              "not enter, is refused. Only with --root, and without --rw, the default is / if the "
              "guest does not have this directory, as with chroot(8).",
      .read = option_read_text,
      .at = offsetof(struct run_options, cwd),
      .min = 1 },
    { .name = "env",
      .argument = "NAME[=VALUE]",
      .help = "set or pass on a variable; can be repeated",
      .more = "NAME alone has the host's value, if the host has one. PATH, HOME, SHELL, TERM, "
              "LANG, LC_ALL and TZ are always passed on; USER and LOGNAME "
              "are set to the user who runs CMD.",
      .read = run_options_read_env,
      .at = offsetof(struct run_options, environment),
      .min = 1 },
    { .name = "cmdline",
      .argument = "STRING",
      .help = "append to the kernel's command line",
      .read = option_read_text,
      .at = offsetof(struct run_options, cmdline) },
    { .name = "no-balloon",
      .rare = true,
      .help = "memory that the guest frees stays allocated on the host",
      .more = "There is a balloon otherwise, as with --balloon of a machine without run.",
      .read = option_read_negated,
      .at = offsetof(struct run_options, machine.balloon) },
    { .name = "sandbox",
      .rare = true,
      .argument = "auto|on|off|strict",
      .help = "what minivmm itself may do while a guest runs (auto)",
      .more = "As without run.",
      .read = option_read_choice,
      .at = offsetof(struct run_options, machine.sandbox) },
    { .name = "verbose",
      .letter = 'v',
      .help = "print the whole kernel log to stderr",
      .more = "Also which kernel was chosen, and which files could not be read.",
      .read = option_read_flag,
      .at = offsetof(struct run_options, verbose) },
    { .name = "json",
      .rare = true,
      .argument = "FILE",
      .help = "write a report for programs",
      .read = option_read_text,
      .at = offsetof(struct run_options, json),
      .min = 1 },
    { .name = "jobs",
      .letter = 'j',
      .argument = "N",
      .help = "run N kernels at a time (1)",
      .read = option_read_number,
      .at = offsetof(struct run_options, jobs),
      .min = 1,
      .max = 1024 },
    { .name = "help", .letter = 'h', .help = "print this help", .read = option_print_help },
    { .name = NULL },
};

const struct option_table run_options_table = {
    .program = "minivmm run",
    .usage = "[OPTION]... [--] [CMD [ARG]...]  (see man minivmm)",
    .options = run_options_list,
};

static int run_options_set_defaults(struct run_options *options)
{
    int error;

    *options = (struct run_options){ .jobs = 1,
                                     .boot_timeout_ms = DEFAULT_BOOT_TIMEOUT,
                                     .grace_ms = DEFAULT_GRACE };
    error = config_set_defaults(&options->machine);
    options->machine.nets = NULL;
    options->machine.balloon = true;
    options->machine.memory = 0;
    options->machine.cpus = 0;
    return error;
}

/* What of a machine with a name was decided when it was made. */
static const char *run_options_decided(const struct run_options *options)
{
    const struct config *machine = &options->machine;

    return options->kernels    ? "kernel"
           : options->modules  ? "modules"
           : options->root     ? "root"
           : options->shares   ? "ro or --rw"
           : options->guarded  ? "guarded"
           : machine->memory   ? "memory"
           : machine->cpus     ? "cpus"
           : machine->disks    ? "disk"
           : machine->nets     ? "net"
           : options->cmdline  ? "cmdline"
           : !machine->balloon ? "no-balloon"
                               : NULL;
}

static int run_options_check_names(const struct run_options *options)
{
    const char *decided = options->from ? run_options_decided(options) : NULL;

    if (options->from && !warm_is_name(options->from))
        return log_refuse(EINVAL, "--from: '%s' is not the name of a warm machine", options->from);
    if (options->name && options->from)
        return log_refuse(EINVAL, "--from is of minivmm run");
    if (options->warm && (options->name || options->from))
        return log_refuse(EINVAL, "--warm is of minivmm run without --from");
    if (options->name && options->kernels && options->kernels->next)
        return log_refuse(EINVAL, "--kernel: a warm machine has one");
    if (options->on_fork && !options->name)
        return log_refuse(EINVAL, "--on-fork is of minivmm warm NAME");
    if (decided)
        return log_refuse(EINVAL, "--%s: with --from this is as minivmm warm %s was told", decided,
                          options->from);
    return 0;
}

/* Refuses what only one machine at a time can use: a tap, a forwarded port, a disk to write. */
static int run_options_check_shared(const struct config *machine)
{
    for (const struct net_config *net = machine->nets; net; net = net->next)
        if (net->kind == NET_TAP || net->user.network.forwards || net->user.fd >= 0)
            return log_refuse(EINVAL,
                              "--net %s: only one machine at a time can use it; use --jobs 1",
                              net->kind == NET_TAP ? "tap"
                              : net->user.fd >= 0  ? "user: fd"
                                                   : "user: hostfwd");
    for (const struct disk_config *disk = machine->disks; disk; disk = disk->next)
        if (!disk->image.read_only && !disk->image.throw_away)
            return log_refuse(EINVAL,
                              "--disk %s: only one machine at a time can write it; use --jobs 1, "
                              "or give it with ,ro or ,throw-away",
                              disk->image.path);
    return 0;
}

/* Will several machines run at once? */
static bool run_options_at_once(const struct run_options *options)
{
    return options->jobs > 1 && options->kernels && options->kernels->next;
}

/* Options come first: the first other word begins the command. */
enum config_result run_options_parse(struct run_options *options, const char *name, int argc,
                                     char **argv)
{
    struct option_reader reader = { .table = &run_options_table,
                                    .other = &config_table,
                                    .base = options,
                                    .arena = &options->machine.arena };
    char **words = argv + (argc > 0);
    int result = run_options_set_defaults(options);

    options->name = name;
    while (!result && *words && (*words)[0] == '-' && strcmp(*words, "--") != 0)
        result = option_read_next(&reader, &words);
    if (*words && !strcmp(*words, "--"))
        words++;
    options->argv = words;
    if (!result)
        result = run_options_check_names(options);
    if (!options->machine.memory)
        options->machine.memory = DEFAULT_MEMORY;
    if (!options->machine.cpus)
        options->machine.cpus = 1;
    if (!result && !(result = config_check_nets(&options->machine)) &&
        !(result = config_check_disks(&options->machine)) && run_options_at_once(options))
        result = run_options_check_shared(&options->machine);
    return result > 0 ? CONFIG_DONE : result < 0 ? CONFIG_USAGE : CONFIG_RUN;
}

void run_options_finish(struct run_options *options)
{
    config_finish(&options->machine);
}

char *run_options_format(struct run_options *options, const char *fmt, ...)
{
    char *text = NULL;
    va_list args;
    int length;

    va_start(args, fmt);
    length = vsnprintf(NULL, 0, fmt, args);
    va_end(args);
    if (length >= 0)
        text = arena_alloc(&options->machine.arena, (size_t)length + 1);
    if (!text) {
        log_error(ENOMEM, "options");
        return NULL;
    }
    va_start(args, fmt);
    vsnprintf(text, (size_t)length + 1, fmt, args);
    va_end(args);
    return text;
}
