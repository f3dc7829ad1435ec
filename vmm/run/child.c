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
#include "vmm/run/etc.h"
#include "vmm/run/initramfs.h"
#include "vmm/run/modules.h"
#include "vmm/run/options.h"
#include "vmm/run/unpacked.h"
#include "vmm/run/warm_start.h"

#define HOSTNAME  "minivmm"
#define TEXT_SIZE 1000

/* How the guest's command gets our standard input, output and error. */
struct child_streams {
    enum initramfs_stream kind[3];
    int fd[3];    /* duplicates, for the machine's ports */
    int terminal; /* the stream whose terminal is the command's; -1: none */
};

/* True after 2>&1. */
static bool child_same_file(int a, int b)
{
    struct stat first, second;

    return fstat(a, &first) == 0 && fstat(b, &second) == 0 && first.st_dev == second.st_dev &&
           first.st_ino == second.st_ino;
}

/*
 * Standard input is a terminal for the command only if standard output is one: in `run | less`, raw
 * mode would disturb less.
 *
 * The machine gets duplicates and closes them when the command does, so that a reader of our output
 * sees its end. /dev/null replaces descriptors 0 and 1; we still print to standard error.
 */
static int child_take_streams(struct child_streams *streams)
{
    cleanup_close int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    bool same = child_same_file(STDOUT_FILENO, STDERR_FILENO);

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

/*
 * What is typed ahead is not for a machine that is saved before it has its job. While one goes on
 * that another child may have to take the place of, nothing is read.
 */
static bool child_holds(const struct port_config *port, enum warm_mode mode)
{
    return mode == WARM_MAKE ? port->console : mode == WARM_FORK && !port->ordered;
}

static int child_add_port(struct config *config, enum warm_mode mode, const char *name, int input,
                          int output)
{
    struct port_config *port = config_add_port(config);

    if (!port)
        return -ENOMEM;
    port->name = name;
    port->input = input;
    port->output = output;
    port->console = !strcmp(name, JOB_PORT_TTY);
    port->ordered = !strcmp(name, JOB_PORT_AGENT);
    port->held = child_holds(port, mode);
    return 0;
}

/* `all`: of a machine with a name, as those who start from it may need others. */
static int child_add_ports(struct config *config, enum warm_mode mode, bool all,
                           const struct child_streams *streams, int control)
{
    static const char *const names[] = { JOB_PORT_STDIN, JOB_PORT_STDOUT, JOB_PORT_STDERR };
    bool typed = streams->kind[STDIN_FILENO] == INITRAMFS_TTY;
    int error = 0;

    if (streams->terminal >= 0 || all)
        error = child_add_port(config, mode, JOB_PORT_TTY, typed ? streams->fd[STDIN_FILENO] : -1,
                               streams->terminal < 0 ? -1 : streams->fd[streams->terminal]);
    for (int i = STDIN_FILENO; i <= STDERR_FILENO && !error; i++) {
        int fd = streams->kind[i] == INITRAMFS_PORT ? streams->fd[i] : -1;

        if (fd >= 0 || all)
            error = child_add_port(config, mode, names[i], i == STDIN_FILENO ? fd : -1,
                                   i == STDIN_FILENO ? -1 : fd);
    }
    return error ? error : child_add_port(config, mode, JOB_PORT_AGENT, control, control);
}

/* If the command is root in the guest, so that it is at home there, the user's files are root's. */
static int child_add_share(struct config *config, const struct user *user,
                           const struct mount *mount, const char *tag, bool guarded)
{
    struct share_config *share = config_add_share(config);

    if (!share)
        return -ENOMEM;
    share->directory = (struct share_options){ .path = mount->host,
                                               .writable = mount->writable,
                                               .guarded = guarded };
    if (user->uid != 0) {
        share->directory.guest_uid = geteuid();
        share->directory.guest_gid = getegid();
    }
    snprintf(share->tag, sizeof(share->tag), "%s", tag);
    return 0;
}

static int child_add_modules(const struct child_params *child, struct initramfs *initramfs,
                             struct initramfs_share *share)
{
    const char *modules = initramfs->modules;
    struct mount mount = { .host = NULL };

    if (!modules || modules_shown(modules, child->mounts.root.host, child->version))
        return 0;
    mount.host = run_options_format(child->options, "%s", modules);
    share->tag = JOB_MODULES_TAG;
    share->directory = run_options_format(child->options, "/lib/modules/%s", child->version);
    initramfs->share_count++;
    return mount.host && share->directory
               ? child_add_share(&child->options->machine, &child->user, &mount, share->tag, false)
               : -ENOMEM;
}

/* Modules come first: no directory is made in a share of the user, which may lie on top of them. */
static int child_add_shares(const struct child_params *child, struct initramfs *initramfs)
{
    struct config *config = &child->options->machine;
    const struct mounts *mounts = &child->mounts;
    struct initramfs_share *shares =
        arena_alloc(&config->arena, (mounts->share_count + 2) * sizeof(*shares));
    int error = child_add_share(config, &child->user, &mounts->root, JOB_ROOT_TAG, false);

    if (!shares)
        return log_error(ENOMEM, "shares");
    initramfs->shares = shares;
    if (!error) {
        config->shares->directory.overlaid = true;
        error = child_add_modules(child, initramfs, shares);
    }
    for (unsigned i = 0; i < mounts->share_count && !error; i++) {
        const struct mount *mount = &mounts->shares[i];
        char *tag = arena_alloc(&config->arena, 16);

        if (!tag)
            return log_error(ENOMEM, "shares");
        snprintf(tag, 16, "share%u", i);
        error = child_add_share(config, &child->user, mount, tag, child->options->guarded);
        shares[initramfs->share_count++] = (struct initramfs_share){ .tag = tag,
                                                                     .directory = mount->guest,
                                                                     .writable = mount->writable };
    }
    return error;
}

static void child_describe_terminal(struct initramfs *initramfs,
                                    const struct child_streams *streams)
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

/* The name that Linux gives the first NIC in the user-mode network; NULL: there is none. */
static const char *child_user_network(struct run_options *options)
{
    const struct net_config *net = options->machine.nets;
    unsigned index = 0;

    for (; net && net->kind != NET_USER; net = net->next)
        index++;
    return net ? run_options_format(options, "eth%u", index) : NULL;
}

static int child_make_etc(struct etc *ret, const struct child_params *child, const char *network)
{
    return etc_make(ret, child->mounts.root.host, HOSTNAME, "/etc/resolv.conf",
                    network                        ? ETC_USER_NETWORK
                    : child->options->machine.nets ? ETC_OTHER_NETWORK
                                                   : ETC_NO_NETWORK);
}

/* What the agent is to do, and what the machine needs for it. */
struct child_job {
    struct initramfs initramfs;
    struct etc etc;
    char *modules; /* owned, as `etc` */
};

static int child_describe_job(struct child_job *ret, struct config *config,
                              const struct child_params *child, const struct child_streams *streams)
{
    struct initramfs *initramfs = &ret->initramfs;
    bool named = child->snap;
    int error;

    *ret = (struct child_job){ .initramfs = {
                                   .version = child->version,
                                   .argv = (const char *const *)child->argv,
                                   .env = child->environment,
                                   .cwd = child->mounts.cwd,
                                   .run = child->mounts.run,
                                   .freeze = child->options->name,
                                   .hook = child->options->on_fork,
                                   .hostname = named ? NULL : HOSTNAME,
                                   .uid = child->user.uid,
                                   .gid = child->user.gid,
                                   .groups = child->user.groups,
                                   .group_count = child->user.group_count,
                                   .nic = config->nets,
                                   .disk = config->disks,
                                   .balloon = config->balloon,
                                   .network = named ? NULL : child_user_network(child->options),
                                   .etc = &ret->etc,
                               } };
    child_describe_terminal(initramfs, streams);
    if (named)
        return 0; /* the rest is there */
    error = modules_find(&ret->modules, child->options->modules, child->kernel, child->version);
    initramfs->modules = ret->modules;
    if (!error)
        error = child_add_shares(child, initramfs);
    return error ? error : child_make_etc(&ret->etc, child, initramfs->network);
}

static void child_finish_job(struct child_job *job)
{
    etc_finish(&job->etc);
    free(job->modules);
}

static int child_make_initramfs(struct config *config, struct run_options *options,
                                const struct initramfs *initramfs)
{
    config->initrd = run_options_format(options, "the initramfs");
    return config->initrd ? initramfs_create(&config->initrd_fd, initramfs) : -ENOMEM;
}

/*
 * "quiet" because the serial port is slow; a panic is printed in any case. After a panic, and only
 * then, the kernel asks for a warm reset: so child_status() knows it without a driver for pvpanic.
 * Linux's self-tests of ciphers take almost half of the time that a distribution's kernel needs to
 * boot. The user's words come last, since the last value of a parameter counts.
 */
static char *child_cmdline(struct run_options *options)
{
    return run_options_format(
        options, "console=%s %spanic=-1 oops=panic reboot=panic_warm cryptomgr.notests%s%s",
        arch_default_console(), options->verbose ? "" : "quiet ", options->cmdline ? " " : "",
        options->cmdline ? options->cmdline : "");
}

struct child_machine {
    struct front_end front;
    struct warm_start warm;
};

static struct child_machine *child_of(struct front_end *f)
{
    return container_of(f, struct child_machine, front);
}

/* The guest has its job: from here on no other child takes this one's place. */
static void child_go_on(struct front_end *f)
{
    log_expect_errors(false);
    consoles_each(&f->machine.board, terminal_release);
}

static void child_signal(struct front_end *f, int signal)
{
    if (signal == SIGUSR2)
        front_end_stop(f, STATUS_POWER_OFF);
    else if (signal == SIGURG)
        consoles_each(&f->machine.board, terminal_pass_interrupts);
    else if (signal == SIGPROF && child_of(f)->warm.mode == WARM_FORK)
        child_go_on(f);
    else if (signal == SIGPROF)
        warm_asked(&child_of(f)->warm, &f->life);
}

static void child_event(struct front_end *f, enum life_event event, const char *name)
{
    warm_on_event(&child_of(f)->warm, event, name);
}

static void child_quit(struct front_end *f)
{
    front_end_stop(f, STATUS_SIGNAL + SIGINT);
}

static int child_status(struct front_end *f, const struct life_end *end)
{
    if (end->reason == END_FAILURE || consoles_lost_output(&f->machine.board))
        return STATUS_FAILED;
    if (end->reason == END_REQUEST)
        return (int)end->code;
    if (end->event == GUEST_EXIT) {
        log_refuse(EINVAL, "the guest wrote %u to the debug-exit port", end->code);
        return STATUS_FAILED;
    }
    if (end->warm_reset && (end->event == GUEST_RESET || end->event == GUEST_TRIPLE_FAULT))
        return STATUS_PANIC;
    return boot_guest_status(end);
}

static const struct front_end_ops child_ops = {
    .signal = child_signal,
    .quit = child_quit,
    .status = child_status,
    .event = child_event,
};

/* The machine's console is of this shape: it is a part of what a warm machine is kept by. */
static const char *child_shape(struct run_options *options, const struct child_streams *streams)
{
    return run_options_format(options, "%d %d %d tty %d", streams->kind[0], streams->kind[1],
                              streams->kind[2], streams->terminal);
}

/* What `minivmm warm --list` shows of a machine with a name. */
static const char *child_text(const struct child_params *child)
{
    char *text = run_options_format(child->options, WARM_TEXT_FORMAT, child->version,
                                    child->mounts.root.host);

    for (char *const *word = child->argv; text && *word && strlen(text) < TEXT_SIZE; word++)
        text = run_options_format(child->options, "%s %.*s", text, TEXT_SIZE, *word);
    return text;
}

/* Decides how to start: `warm` has the mode. */
static int child_choose_mode(struct warm_start *warm, const struct child_params *child,
                             const struct child_streams *streams, const struct child_job *job,
                             const struct session_ends *ends)
{
    struct run_options *options = child->options;
    struct config *config = &options->machine;
    const char *shape = options->warm ? child_shape(options, streams) : NULL;
    const char *text = options->name ? child_text(child) : NULL;

    if (options->name)
        return text ? warm_name(warm, config, options->name, text, ends->kept) : -ENOMEM;
    if (child->snap)
        warm_take(warm, child->snap);
    else
        warm_choose(warm, shape ? warm_key(config, shape, job->modules) : NULL, config->memory,
                    child->boots);
    return 0;
}

/* Finds a warm machine, or prepares to make one, or to boot. */
static int child_choose_start(struct warm_start *warm, const struct child_params *child,
                              const struct child_streams *streams, const struct child_job *job,
                              const struct session_ends *ends)
{
    struct run_options *options = child->options;
    struct config *config = &options->machine;
    struct initramfs initramfs = job->initramfs;
    int error = child_choose_mode(warm, child, streams, job, ends);
    bool asks = warm->mode == WARM_MAKE || warm->mode == WARM_FORK;

    if (error || (asks && ((error = initramfs_send_job(&warm->job, &initramfs)) ||
                           (error = warm_prepare(warm, config, ends->names)))))
        return error;
    initramfs.warm = warm->mode == WARM_MAKE;
    *ends->warm = warm->mode == WARM_FORK;
    if (warm->mode == WARM_FORK) {
        log_expect_errors(!child->snap); /* the supervisor starts a child that boots */
        return 0;
    }
    config->unpacked_fd = unpacked_open(child->kernel);
    return child_make_initramfs(config, options, &initramfs);
}

/*
 * Signals of the terminal reach the supervisor, too, which decides: child_signal() ignores them.
 * The supervisor sends SIGUSR2 to stop the machine, SIGPROF when the agent waits for its job or, in
 * a warm machine, has it, and SIGURG when the command starts: from then on Ctrl-C goes to the
 * command.
 */
static int child_boot(struct child_machine *machine, const struct config *config)
{
    sigset_t signals;

    front_end_stop_signals(&signals);
    sigaddset(&signals, SIGUSR2);
    sigaddset(&signals, SIGURG);
    sigaddset(&signals, SIGPROF);
    if (machine->warm.mode == WARM_FORK)
        machine->front.snapshot = &machine->warm.snap;
    return front_end_run(&machine->front, &child_ops, config, &signals, true);
}

int child_run(const struct child_params *child, const struct session_ends *ends)
{
    struct config *config = &child->options->machine;
    struct child_streams streams = { .terminal = -1 };
    struct child_machine machine = { .front.snapshot = NULL };
    struct child_job job = { .modules = NULL };
    int error = child_take_streams(&streams), status = STATUS_FAILED;

    config->kernel = child->kernel;
    if (!child->snap)
        config->cmdline = child_cmdline(child->options);
    config->serial = (struct console_config){ .kind = CONSOLE_FD, .fd = ends->log };
    config->console.kind = CONSOLE_NONE;
    config->reboot = false;
    if (!error && config->cmdline && !child_describe_job(&job, config, child, &streams) &&
        !child_choose_start(&machine.warm, child, &streams, &job, ends) &&
        !child_add_ports(config, machine.warm.mode, child->options->name || child->snap, &streams,
                         ends->agent)) {
        config->shares->directory.names_fd = ends->names; /* the first one, the root */
        status = child_boot(&machine, config);
    }
    child_finish_job(&job);
    warm_finish(&machine.warm);
    return status;
}
