/* SPDX-License-Identifier: MIT */
#include "vmm/run/child.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "devices/console/terminal.h"
#include "firmware/init/job.h"
#include "vmm/board/consoles.h"
#include "vmm/cli/boot.h"
#include "vmm/cli/front_end.h"
#include "vmm/cli/status.h"
#include "vmm/config/config.h"
#include "vmm/core/arena.h"
#include "vmm/core/base.h"
#include "vmm/core/cleanup.h"
#include "vmm/core/log.h"
#include "vmm/kvm/arch.h"
#include "vmm/run/initramfs.h"
#include "vmm/run/modules.h"
#include "vmm/run/options.h"

#define HOSTNAME "minivmm"

/* What becomes of standard input, output and error. */
struct streams {
    enum initramfs_stream kind[3];
    int fd[3];    /* the machine's */
    int terminal; /* which of them has its size; -1: none is one */
};

/* As after 2>&1. */
static bool streams_same(int a, int b)
{
    struct stat first, second;

    return fstat(a, &first) == 0 && fstat(b, &second) == 0 && first.st_dev == second.st_dev &&
           first.st_ino == second.st_ino;
}

/*
 * Keys are typed on a terminal only if the answers appear there: what else writes to it, after a
 * pipe, could not do with raw mode.
 *
 * The machine closes what it is given, so that whoever reads our output sees its end when the
 * command closes it. What is left in its place leads nowhere, but for standard error, which is ours
 * as well.
 */
static int streams_take(struct streams *streams)
{
    cleanup_close int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    bool same = streams_same(STDOUT_FILENO, STDERR_FILENO);

    if (null < 0)
        return log_error(errno, "open /dev/null");
    for (int i = STDERR_FILENO; i >= STDIN_FILENO; i--) {
        streams->kind[i] =
            isatty(i) && (i != STDIN_FILENO || streams->kind[STDOUT_FILENO] == INITRAMFS_TTY)
                ? INITRAMFS_TTY
                : INITRAMFS_PORT;
        streams->fd[i] = fcntl(i, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
        if (streams->fd[i] < 0 || (i != STDERR_FILENO && dup2(null, i) < 0))
            return log_error(errno, "standard descriptor %d", i);
        if (streams->kind[i] == INITRAMFS_TTY && (i != STDIN_FILENO || streams->terminal < 0))
            streams->terminal = i;
    }
    if (same && streams->kind[STDERR_FILENO] == INITRAMFS_PORT)
        streams->kind[STDERR_FILENO] = INITRAMFS_OUTPUT;
    return 0;
}

static int guest_add_port(struct config *config, const char *name, int input, int output)
{
    struct port_config *port = config_add_port(config);

    if (!port)
        return -ENOMEM;
    port->name = name;
    port->input = input;
    port->output = output;
    port->console = !strcmp(name, JOB_PORT_TTY);
    port->ordered = !strcmp(name, JOB_PORT_AGENT);
    return 0;
}

static int guest_add_ports(struct config *config, const struct streams *streams, int control)
{
    static const char *const names[] = { JOB_PORT_STDIN, JOB_PORT_STDOUT, JOB_PORT_STDERR };
    bool typed = streams->kind[STDIN_FILENO] == INITRAMFS_TTY;
    int error = 0;

    if (streams->terminal >= 0)
        error = guest_add_port(config, JOB_PORT_TTY, typed ? streams->fd[STDIN_FILENO] : -1,
                               streams->fd[streams->terminal]);
    for (int i = STDIN_FILENO; i <= STDERR_FILENO && !error; i++)
        if (streams->kind[i] == INITRAMFS_PORT)
            error = guest_add_port(config, names[i], i == STDIN_FILENO ? streams->fd[i] : -1,
                                   i == STDIN_FILENO ? -1 : streams->fd[i]);
    return error ? error : guest_add_port(config, JOB_PORT_AGENT, control, control);
}

static int guest_add_share(struct config *config, const struct place *place, const char *tag)
{
    struct share_config *share = config_add_share(config);

    if (!share)
        return -ENOMEM;
    share->directory = (struct share_options){ .path = place->host, .writable = place->writable };
    snprintf(share->tag, sizeof(share->tag), "%s", tag);
    return 0;
}

static int guest_add_shares(struct config *config, struct initramfs *initramfs,
                            const struct places *places)
{
    struct initramfs_share *shares =
        arena_alloc(&config->arena, (places->share_count + 1) * sizeof(*shares));
    int error = guest_add_share(config, &places->root, JOB_ROOT_TAG);

    if (!shares)
        return log_error(ENOMEM, "shares");
    for (unsigned i = 0; i < places->share_count && !error; i++) {
        const struct place *place = &places->shares[i];
        char *tag = arena_alloc(&config->arena, 16);

        if (!tag)
            return log_error(ENOMEM, "shares");
        snprintf(tag, 16, "share%u", i);
        error = guest_add_share(config, place, tag);
        shares[i] = (struct initramfs_share){ .tag = tag,
                                              .directory = place->guest,
                                              .writable = place->writable };
    }
    initramfs->shares = shares;
    initramfs->share_count = places->share_count;
    return error;
}

static void guest_describe_terminal(struct initramfs *initramfs, const struct streams *streams)
{
    struct winsize size;

    initramfs->input = streams->kind[STDIN_FILENO];
    initramfs->output = streams->kind[STDOUT_FILENO];
    initramfs->error = streams->kind[STDERR_FILENO];
    if (streams->terminal < 0)
        return;
    initramfs->tty = "hvc0";
    if (ioctl(streams->fd[streams->terminal], TIOCGWINSZ, &size) == 0) {
        initramfs->rows = size.ws_row;
        initramfs->columns = size.ws_col;
    }
}

static int guest_make_initramfs(struct config *config, const struct guest *guest,
                                const struct streams *streams)
{
    struct initramfs initramfs = {
        .version = guest->version,
        .argv = (const char *const *)guest->argv,
        .env = guest->environment,
        .cwd = guest->places.cwd,
        .hostname = HOSTNAME,
        .uid = guest->user.uid,
        .gid = guest->user.gid,
        .groups = guest->user.groups,
        .group_count = guest->user.group_count,
        .network = config->nets && config->nets->kind == NET_USER,
    };
    cleanup_free char *modules = NULL;
    int error = modules_find(&modules, guest->command->modules, guest->kernel, guest->version);

    if (error)
        return error;
    initramfs.modules = modules;
    guest_describe_terminal(&initramfs, streams);
    error = guest_add_shares(config, &initramfs, &guest->places);
    config->initrd = command_format(guest->command, "the initramfs");
    return error ? error : initramfs_create(&config->initrd_fd, &initramfs);
}

/* Little on the serial port, which is slow; all of it after a panic. */
static char *guest_cmdline(struct command *command)
{
    return command_format(command, "console=%s %spanic=-1 oops=panic%s%s", arch_default_console(),
                          command->verbose ? "" : "quiet ", command->cmdline ? " " : "",
                          command->cmdline ? command->cmdline : "");
}

static void guest_signal(struct front_end *f, int signal)
{
    if (signal == SIGUSR2)
        front_end_stop(f, STATUS_POWER_OFF);
    else if (signal == SIGURG)
        consoles_each(&f->machine.board, terminal_pass_interrupts);
}

static void guest_quit(struct front_end *f)
{
    front_end_stop(f, STATUS_SIGNAL + SIGINT);
}

static int guest_status(struct front_end *f, const struct life_end *end)
{
    if (end->reason == END_FAILURE || consoles_lost_output(&f->machine.board))
        return STATUS_FAILED;
    return end->reason == END_REQUEST ? (int)end->code : boot_guest_status(end);
}

static const struct front_end_ops guest_ops = {
    .signal = guest_signal,
    .quit = guest_quit,
    .status = guest_status,
};

/*
 * The supervisor decides on signals: those that it shares with us are read and left to it. SIGUSR2
 * from it ends the machine, and SIGURG says that the command runs, whose Ctrl-C is from then on.
 */
static int guest_boot(const struct config *config)
{
    struct front_end front = { .ops = NULL };
    sigset_t signals;

    front_end_stop_signals(&signals);
    sigaddset(&signals, SIGUSR2);
    sigaddset(&signals, SIGURG);
    return front_end_run(&front, &guest_ops, config, &signals, true);
}

int guest_run(const struct guest *guest, const struct session_ends *ends)
{
    struct config *config = &guest->command->machine;
    struct streams streams = { .terminal = -1 };
    int error = streams_take(&streams);

    config->kernel = guest->kernel;
    config->cmdline = guest_cmdline(guest->command);
    config->serial = (struct console_config){ .kind = CONSOLE_FD, .fd = ends->log };
    config->console.kind = CONSOLE_NONE;
    config->reboot = false;
    if (error || !config->cmdline || guest_make_initramfs(config, guest, &streams) ||
        guest_add_ports(config, &streams, ends->control))
        return STATUS_FAILED;
    return guest_boot(config);
}
