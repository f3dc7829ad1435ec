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

#define DEFAULT_MEMORY       (1 * GIB)
#define DEFAULT_BOOT_TIMEOUT 60000 /* for hosts that emulate, too */

/* Appends one to a list of words. */
static int command_read_word(struct option_reader *r, char *value, void *target)
{
    struct command_word **words = target, *word = arena_alloc(r->arena, sizeof(*word));

    if (!word)
        return log_error(ENOMEM, "--%s", r->option->name);
    list_append(words, word);
    r->filled = word;
    return option_read_text(r, value, &word->text);
}

static int command_read_rw(struct option_reader *r, char *value, void *target)
{
    int error = command_read_word(r, value, target);

    if (!error)
        ((struct command_word *)r->filled)->writable = true;
    return error;
}

static int command_read_env(struct option_reader *r, char *value, void *target)
{
    if (*value == '=')
        return option_refuse(r, "'%s' is not of the form %s", value, r->option->argument);
    return command_read_word(r, value, target);
}

static const struct option command_options[] = {
    { .name = "kernel",
      .argument = "FILE",
      .help = "what to boot; again for another (this host's)",
      .more = "Without it the running kernel, if /boot has it and it can be read, else the newest "
              "one there. With several the command is run once under each.",
      .read = command_read_word,
      .at = offsetof(struct command, kernels),
      .min = 1 },
    { .name = "modules",
      .argument = "DIR",
      .help = "the kernel's modules (lib/modules beside it); none",
      .more =
          "Either that directory or one with lib/modules/VERSION in it; none if all is built in.",
      .read = option_read_text,
      .at = offsetof(struct command, modules),
      .min = 1 },
    { .name = "root",
      .argument = "DIR",
      .help = "the guest's root directory, read-only (/)",
      .more = "What the guest writes there stays in its memory and is lost at the end.",
      .read = option_read_text,
      .at = offsetof(struct command, root),
      .min = 1 },
    { .name = "ro",
      .argument = "DIR[:GUESTDIR]",
      .help = "show a directory as it is; again for another",
      .more = "Without GUESTDIR, which begins with a slash, the guest has it where the host has.",
      .read = command_read_word,
      .at = offsetof(struct command, shares),
      .min = 1 },
    { .name = "rw",
      .argument = "DIR[:GUESTDIR]",
      .help = "the same, and the guest may write to it",
      .read = command_read_rw,
      .at = offsetof(struct command, shares),
      .min = 1 },
    { .name = "memory",
      .letter = 'm',
      .argument = "SIZE",
      .help = "RAM, such as 256M or 4G (1G)",
      .read = option_read_size,
      .at = offsetof(struct command, machine.memory),
      .min = 64 * MIB,
      .max = 16 * 1024 * GIB },
    { .name = "cpus",
      .letter = 'c',
      .argument = "N",
      .help = "virtual CPUs (1)",
      .read = option_read_number,
      .at = offsetof(struct command, machine.cpus),
      .min = 1,
      .max = 1024 },
    { .name = "net",
      .argument = "CARD",
      .help = "network card; user is set up in the guest (none)",
      .at = offsetof(struct command, machine),
      .forms = config_net_forms },
    { .name = "timeout",
      .argument = "TIME",
      .help = "end a run after 30s, 500ms, 5m (never)",
      .read = option_read_duration,
      .at = offsetof(struct command, timeout_ms) },
    { .name = "boot-timeout",
      .argument = "TIME",
      .help = "how long the guest may take to run CMD (60s)",
      .more = "0 is for ever.",
      .read = option_read_duration,
      .at = offsetof(struct command, boot_timeout_ms) },
    { .name = "user",
      .argument = "USER",
      .help = "who runs it (root, in the guest)",
      .more = "NAME, UID or UID:GID. Names are looked up in the root directory's etc/passwd and "
              "etc/group. Users and "
              "groups of files have the same numbers on both sides; what the host lets the guest "
              "do with a file is what minivmm's user may do.",
      .read = option_read_text,
      .at = offsetof(struct command, user),
      .min = 1 },
    { .name = "cwd",
      .argument = "DIR",
      .help = "absolute directory in the guest (this one; else /)",
      .read = option_read_text,
      .at = offsetof(struct command, cwd),
      .min = 1 },
    { .name = "env",
      .argument = "NAME[=VALUE]",
      .help = "set or pass on a variable; again for another",
      .more = "Passed on in any case are PATH, HOME, SHELL, TERM, LANG, LC_ALL and TZ; USER and "
              "LOGNAME name the one who runs it.",
      .read = command_read_env,
      .at = offsetof(struct command, environment),
      .min = 1 },
    { .name = "cmdline",
      .argument = "STRING",
      .help = "more words for the kernel's command line",
      .read = option_read_text,
      .at = offsetof(struct command, cmdline) },
    { .name = "verbose",
      .letter = 'v',
      .help = "the kernel's log on stderr, all of it",
      .read = option_read_flag,
      .at = offsetof(struct command, verbose) },
    { .name = "json",
      .argument = "FILE",
      .help = "write what happened, for programs",
      .read = option_read_text,
      .at = offsetof(struct command, json),
      .min = 1 },
    { .name = "jobs",
      .letter = 'j',
      .argument = "N",
      .help = "with several kernels, N at a time (1)",
      .read = option_read_number,
      .at = offsetof(struct command, jobs),
      .min = 1,
      .max = 1024 },
    { .name = "help", .letter = 'h', .help = "print this help", .read = option_print_help },
    { .name = NULL },
};

const struct option_table command_table = {
    .program = "minivmm run",
    .usage = "[OPTION]... [--] [CMD [ARG]...]  (see man minivmm)",
    .options = command_options,
};

static int command_set_defaults(struct command *command)
{
    int error;

    *command = (struct command){ .jobs = 1, .boot_timeout_ms = DEFAULT_BOOT_TIMEOUT };
    error = config_set_defaults(&command->machine);
    command->machine.nets = NULL;
    command->machine.memory = DEFAULT_MEMORY;
    return error;
}

/* What two machines cannot have at the same time. */
static int command_check_jobs(const struct command *command)
{
    if (command->jobs == 1 || !command->kernels || !command->kernels->next)
        return 0;
    for (const struct net_config *net = command->machine.nets; net; net = net->next)
        if (net->kind == NET_TAP || net->user.forwards)
            return log_refuse(EINVAL,
                              "--net %s: only one kernel at a time can have it: use --jobs 1",
                              net->kind == NET_TAP ? "tap" : "user: hostfwd");
    return 0;
}

/* Options come first: what follows the first other word is the command's. */
enum config_result command_parse(struct command *command, int argc, char **argv)
{
    struct option_reader reader = { .table = &command_table,
                                    .base = command,
                                    .arena = &command->machine.arena };
    char **words = argv + (argc > 0);
    int result = command_set_defaults(command);

    while (!result && *words && (*words)[0] == '-' && strcmp(*words, "--") != 0)
        result = option_read_next(&reader, &words);
    if (*words && !strcmp(*words, "--"))
        words++;
    command->argv = words;
    if (!result && !(result = config_check_nets(&command->machine)))
        result = command_check_jobs(command);
    return result > 0 ? CONFIG_DONE : result < 0 ? CONFIG_USAGE : CONFIG_RUN;
}

void command_finish(struct command *command)
{
    config_finish(&command->machine);
}

char *command_format(struct command *command, const char *fmt, ...)
{
    char *text = NULL;
    va_list args;
    int length;

    va_start(args, fmt);
    length = vsnprintf(NULL, 0, fmt, args);
    va_end(args);
    if (length >= 0)
        text = arena_alloc(&command->machine.arena, (size_t)length + 1);
    if (!text) {
        log_error(ENOMEM, "command");
        return NULL;
    }
    va_start(args, fmt);
    vsnprintf(text, (size_t)length + 1, fmt, args);
    va_end(args);
    return text;
}
