/* SPDX-License-Identifier: MIT */

/*
 * The agent: the first process of a guest that runs one command for the supervisor. It mounts the
 * root, starts the command, copies its streams and reports how it ended; see job.h.
 */
#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <termios.h>

#include "firmware/init/clock.h"
#include "firmware/init/job.h"
#include "firmware/init/job_read.h"
#include "firmware/init/message.h"
#include "firmware/init/network.h"
#include "firmware/init/ports.h"
#include "firmware/init/pump.h"
#include "firmware/init/random.h"
#include "firmware/init/root.h"
#include "firmware/init/spawn.h"
#include "firmware/init/sys.h"
#include "firmware/init/text.h"
#include "vmm/core/base.h"

_Noreturn void init_main(void);

enum { INIT_SIGNALS, INIT_PORT, INIT_STREAMS };

/* Three of the command, two of what an earlier one has left. */
#define PUMPS     5
#define PUMP_LEFT 3

struct init {
    struct message_sink sink;
    struct job job;
    int signals;        /* a signalfd for SIGCHLD */
    int tty;            /* -1: none */
    int streams[3];     /* the command's, closed once it has started */
    int command;        /* its process id; 0: it has ended */
    int status;         /* of the command, as wait4(2) returns it */
    char line[32];      /* from the supervisor, incomplete */
    size_t line_length; /* bytes received */
    struct pump pumps[PUMPS];
    int ports[3]; /* copies, so that they stay open for another command; -1: none */
    struct root_names names;
};

/* The strings must stay. */
static void init_parse_job(struct init *init, const char *bytes, size_t size)
{
    void *scratch = sys_map(job_scratch_size(bytes, size), -1);
    const char *unknown, *cwd = init->job.cwd;

    if (!scratch)
        message_fail(&init->sink, -ENOMEM, "read the job", "");
    unknown = job_read(&init->job, bytes, size, scratch);
    if (unknown)
        message_fail(&init->sink, 0, "unknown key in the job: ", unknown);
    if (!init->job.cwd)
        init->job.cwd = cwd ? cwd : "/";
}

static void init_read_job(struct init *init)
{
    int fd = sys_open(JOB_FILE, O_RDONLY);
    long size = fd < 0 ? fd : sys_size(fd);
    const char *bytes = size > 0 ? sys_map((size_t)size, fd) : NULL;

    if (!bytes || bytes[size - 1])
        message_fail(&init->sink, size < 0 ? (int)size : 0, "the initramfs has no valid " JOB_FILE,
                     "");
    init_parse_job(init, bytes, (size_t)size);
    sys_close(fd);
}

static void init_receive(struct init *init, char *bytes, size_t size)
{
    long got = 1;

    for (size_t at = 0; at < size && got > 0; at += (size_t)got)
        got = sys_read(init->sink.port, bytes + at, size - at);
    if (got <= 0)
        sys_power_off(); /* the supervisor is gone */
}

/* What else the supervisor may have said before is not about this machine any more. */
static size_t init_receive_size(struct init *init)
{
    const char *number;
    char line[32];

    do {
        size_t used = 0;

        do
            init_receive(init, &line[used], 1);
        while (line[used++] != '\n' && used < sizeof(line));
        line[used - 1] = '\0';
        number = text_after(line, "job ");
    } while (!number);
    return text_number(number);
}

/* Input for the command before that was not read. */
static void init_drop_input(struct init *init, const char *tty)
{
    int fd = tty ? ports_open_terminal(&init->sink, tty) : -1;
    char bytes[256];

    if (fd >= 0) {
        sys_ioctl(fd, TCFLSH, TCIFLUSH);
        sys_close(fd);
    }
    while (init->ports[0] >= 0 && sys_read(init->ports[0], bytes, sizeof(bytes)) > 0)
        ;
}

/*
 * The warm point. Without freeze: no user process, nothing mounted, no random number drawn. What
 * follows may happen in many machines.
 */
static void init_wait_for_job(struct init *init)
{
    const struct job before = init->job;
    char *bytes;
    size_t size;
    int error;

    message_send(&init->sink, "warm");
    size = init_receive_size(init);
    bytes = size > 0 ? sys_map(size, -1) : NULL;
    if (!bytes)
        message_fail(&init->sink, -ENOMEM, "read the job", "");
    init_receive(init, bytes, size);
    if (bytes[size - 1])
        message_fail(&init->sink, 0, "the job does not end", "");
    init_parse_job(init, bytes, size);
    init->job.lists[JOB_NODE] = before.lists[JOB_NODE]; /* of the modules, which are loaded */
    error = init->job.seed ? random_reseed(init->job.seed) : -EINVAL;
    if (error)
        message_fail(&init->sink, error, "draw random numbers of its own", "");
    if (before.freeze) {
        init->job.lists[JOB_SHARE] = before.lists[JOB_SHARE];
        init->job.hook = before.hook;
        init_drop_input(init, before.tty);
    }
    message_send(&init->sink, "forked");
}

/* An error is only logged: what needs the module fails with a message of its own. */
static void init_load_modules(struct init *init)
{
    for (const char **name = init->job.lists[JOB_MODULE]; *name; name++) {
        struct text path = { .used = 0 };
        int fd, error;

        text_add(&path, JOB_MODULES_DIRECTORY);
        text_add(&path, *name);
        fd = sys_open(path.bytes, O_RDONLY);
        error = fd < 0 ? fd : sys_load_module(fd);
        if (error && error != -EEXIST && error != -ENODEV)
            message_log(&init->sink, error, "load module ", *name);
        if (fd >= 0)
            sys_close(fd);
        sys_unlink(path.bytes); /* frees its memory */
    }
}

static void init_open_terminal(struct init *init)
{
    const char *rows = init->job.winsize, *columns = rows ? strchr(rows, ':') : NULL;

    init->tty = ports_open_terminal(&init->sink, init->job.tty);
    sys_chown_fd(init->tty, init->job.uid, init->job.gid);
    if (columns) {
        const struct winsize size = { .ws_row = (unsigned short)text_number(rows),
                                      .ws_col = (unsigned short)text_number(columns + 1) };

        sys_ioctl(init->tty, TIOCSWINSZ, &size);
    }
}

/*
 * The command gets a pipe, and a pump connects it to the port: unlike a port, a pipe can be opened
 * again, and by any user.
 */
static void init_open_port(struct init *init, unsigned stream)
{
    static const char *const names[] = { JOB_PORT_STDIN, JOB_PORT_STDOUT, JOB_PORT_STDERR };
    int port = init->ports[stream];
    int ends[2], ours = stream == 0 ? 1 : 0;
    int error = sys_pipe(ends);

    if (error)
        message_fail(&init->sink, error, "make a pipe", "");
    if (port < 0)
        port = ports_open(&init->sink, names[stream],
                          (stream == 0 ? O_RDONLY : O_WRONLY) | O_NONBLOCK);
    init->ports[stream] = init->job.freeze ? sys_copy(port) : -1;
    sys_set_flags(ends[ours], O_NONBLOCK);
    init->streams[stream] = ends[!ours];
    sys_chown_fd(ends[!ours], init->job.uid, init->job.gid);
    pump_init(&init->pumps[stream], stream == 0 ? port : ends[0], stream == 0 ? ends[1] : port);
}

static void init_open_streams(struct init *init)
{
    if (init->job.tty)
        init_open_terminal(init);
    for (unsigned i = 0; i < 3; i++) {
        const char *kind = init->job.streams[i];

        pump_init(&init->pumps[i], -1, -1);
        if (!strcmp(kind, "port"))
            init_open_port(init, i);
        else if (!strcmp(kind, "tty") && init->tty >= 0)
            init->streams[i] = init->tty;
        else if (!strcmp(kind, "stdout"))
            init->streams[i] = init->streams[1];
        else
            init->streams[i] = sys_open("/dev/null", O_RDWR);
    }
}

/* The command has its own copies; as long as the init had some, no pipe would come to its end. */
static void init_close_streams(struct init *init)
{
    for (unsigned i = 0; i < 3; i++)
        if (init->streams[i] != init->tty && (i < 2 || init->streams[2] != init->streams[1]))
            sys_close(init->streams[i]);
    if (init->tty >= 0)
        sys_close(init->tty);
    init->tty = -1;
}

static void init_execute(struct init *init)
{
    const char *number = text_after(init->line, "signal ");

    if (number && init->command)
        sys_kill(-init->command, (int)text_number(number));
    else if (!strcmp(init->line, "names"))
        root_drop_names(&init->names);
}

/* Executes complete lines; one that is too long is cut, and thus unknown. */
static void init_read_port(struct init *init)
{
    char bytes[256];
    long got = sys_read(init->sink.port, bytes, sizeof(bytes));

    if (got <= 0)
        sys_power_off(); /* the supervisor is gone */
    for (long i = 0; i < got; i++) {
        if (bytes[i] != '\n') {
            if (init->line_length < sizeof(init->line) - 1)
                init->line[init->line_length++] = bytes[i];
            continue;
        }
        init->line[init->line_length] = '\0';
        init->line_length = 0;
        init_execute(init);
    }
}

/* Reaps the command and orphans. Returns 0 if some children still run, -ECHILD if none is left. */
static int init_reap(struct init *init, int flags)
{
    int status, pid;

    while ((pid = sys_wait(&status, flags)) > 0)
        if (pid == init->command) {
            init->command = 0;
            init->status = status;
        }
    return pid;
}

/* One turn of the main loop. */
static void init_poll(struct init *init)
{
    struct pollfd set[INIT_STREAMS + 2 * PUMPS] = {
        [INIT_SIGNALS] = { .fd = init->signals, .events = POLLIN },
        [INIT_PORT] = { .fd = init->sink.port, .events = POLLIN },
    };
    char info[128];

    for (unsigned i = 0; i < PUMPS; i++)
        pump_prepare(&init->pumps[i], &set[INIT_STREAMS + 2 * i]);
    sys_poll(set, ARRAY_SIZE(set), NULL);

    for (unsigned i = 0; i < PUMPS; i++)
        pump_run(&init->pumps[i], &set[INIT_STREAMS + 2 * i]);
    if (set[INIT_PORT].revents)
        init_read_port(init);
    if (set[INIT_SIGNALS].revents && sys_read(init->signals, info, sizeof(info)) > 0)
        init_reap(init, WNOHANG);
}

/* The command has ended: kills what it left behind, drains its output and reports its status. */
static void init_finish(struct init *init)
{
    pump_close(&init->pumps[0]);
    sys_kill(-1, SIGKILL);
    init_reap(init, 0);
    while (init->pumps[1].to >= 0 || init->pumps[2].to >= 0)
        init_poll(init);
    root_unmount_shares(&init->sink, init->job.lists[JOB_SHARE]);
    if (WIFEXITED(init->status))
        message_send_number(&init->sink, "exit", WEXITSTATUS(init->status));
    else
        message_send_number(&init->sink, "signal", WTERMSIG(init->status));
}

static void init_set_up(struct init *init)
{
    const uint64_t children = 1ull << (SIGCHLD - 1);

    root_mount_kernel(&init->sink);
    init_read_job(init);
    init_load_modules(init);
    ports_check(&init->sink);
    init->sink.port = ports_open(&init->sink, JOB_PORT_AGENT, O_RDWR);
    message_send(&init->sink, "ready");
    if (init->job.warm)
        init_wait_for_job(init);
    clock_set(&init->sink);

    root_build(&init->sink, &init->job, &init->names);
    init_open_streams(init); /* in the new root's /dev, which is what their names show */
    if (init->job.hostname)
        sys_set_hostname(init->job.hostname, strlen(init->job.hostname));
    network_start(&init->sink, init->job.network, init->job.ipv6);
    sys_mask_signals(SIG_BLOCK, children);
    init->signals = sys_signal_fd(children);
}

/* False: it has not ended well, or is the last one. */
static bool init_run_command(struct init *init)
{
    init->command = spawn_command(&init->sink, &init->job, init->streams, init->tty);
    if (init->command)
        message_send(&init->sink, "running");
    init_close_streams(init);
    if (!init->command)
        return false;
    while (init->command)
        init_poll(init);
    if (init->job.freeze && init->status == 0)
        return true;
    init_finish(init);
    return false;
}

/* As root, and before anybody but this machine can see what it changes. */
static void init_run_hook(struct init *init)
{
    const char *words[] = { "/bin/sh", "-c", init->job.hook, NULL }, *none[] = { NULL };
    int null = sys_open("/dev/null", O_RDWR);
    const int streams[] = { null, init->streams[2], init->streams[2] };
    struct job job = { .cwd = "/" };

    job.lists[JOB_ARG] = words;
    job.lists[JOB_ENV] = init->job.lists[JOB_ENV];
    job.lists[JOB_GROUP] = none;
    init->command = spawn_command(&init->sink, &job, streams, -1);
    sys_close(null);
    if (!init->command)
        message_wait_for_end();
    while (init->command)
        init_poll(init);
    if (init->status != 0)
        message_fail(&init->sink, 0, "the command of --on-fork failed: ", init->job.hook);
}

/* The machine is saved, with the processes that the command has left, and goes on as others. */
static void init_freeze(struct init *init)
{
    pump_close(&init->pumps[0]);
    for (unsigned i = 1; i < 3; i++) {
        pump_set_aside(&init->pumps[i]);
        init->pumps[PUMP_LEFT + i - 1] = init->pumps[i];
    }
    sys_sync();
    init_wait_for_job(init);
    init->line_length = 0;
    clock_set(&init->sink);
    root_drop_names(&init->names); /* the host may have changed some meanwhile */
    init_open_streams(init);
    if (init->job.hook)
        init_run_hook(init);
}

void init_main(void)
{
    struct init init = { .sink = { .port = -1, .log = -1 }, .tty = -1, .ports = { -1, -1, -1 } };

    for (unsigned i = 0; i < PUMPS; i++)
        pump_init(&init.pumps[i], -1, -1);
    init_set_up(&init);
    while (init_run_command(&init))
        init_freeze(&init);
    message_wait_for_end();
}
