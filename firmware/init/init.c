/* SPDX-License-Identifier: MIT */

/*
 * The first process of a guest that runs one command for its host: firmware/guest/orders.h says
 * what about. It brings up what the command needs, carries its streams, and tells its end.
 */
#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>

#include "firmware/init/job.h"
#include "firmware/init/job_read.h"
#include "firmware/init/message.h"
#include "firmware/init/network.h"
#include "firmware/init/ports.h"
#include "firmware/init/pump.h"
#include "firmware/init/root.h"
#include "firmware/init/spawn.h"
#include "firmware/init/sys.h"
#include "firmware/init/text.h"

_Noreturn void init_main(void);

enum { INIT_SIGNALS, INIT_CONTROL, INIT_STREAMS };

struct init {
    struct voice voice;
    struct orders orders;
    int signals;        /* a descriptor that tells of children that ended */
    int tty;            /* -1: none */
    int streams[3];     /* the command's, until it has them */
    int command;        /* its process; 0 once it has ended */
    int status;         /* as wait4(2) has it */
    char line[32];      /* of what the host says */
    size_t line_length; /* of it, so far */
    struct pump pumps[3];
};

static void init_read_orders(struct init *init)
{
    int fd = sys_open(ORDERS_FILE, O_RDONLY);
    long size = fd < 0 ? fd : sys_size(fd);
    const char *bytes = size > 0 ? sys_map((size_t)size, fd) : NULL;
    const char *unknown;
    void *room;

    if (!bytes || bytes[size - 1])
        voice_fail(&init->voice, size < 0 ? (int)size : 0, "there are no orders", "");
    room = sys_map(orders_room(bytes, (size_t)size), -1);
    if (!room)
        voice_fail(&init->voice, -ENOMEM, "there is no room for the orders", "");
    unknown = orders_read(&init->orders, bytes, (size_t)size, room);
    if (unknown)
        voice_fail(&init->voice, 0, "there is no order ", unknown);
    sys_close(fd);
}

/* One that cannot be loaded may be missed later: then that is said. */
static void init_load_modules(struct init *init)
{
    for (const char **name = init->orders.lists[ORDERS_MODULE]; *name; name++) {
        struct text path = { .used = 0 };
        int fd, error;

        text_add(&path, ORDERS_MODULES);
        text_add(&path, *name);
        fd = sys_open(path.bytes, O_RDONLY);
        error = fd < 0 ? fd : sys_load_module(fd);
        if (error && error != -EEXIST && error != -ENODEV)
            voice_log(&init->voice, error, "load ", *name);
        if (fd >= 0)
            sys_close(fd);
        sys_unlink(path.bytes); /* its memory is the guest's again */
    }
}

static void init_open_terminal(struct init *init)
{
    const char *rows = init->orders.winsize, *columns = rows ? strchr(rows, ':') : NULL;

    init->tty = ports_open_terminal(&init->voice, init->orders.tty);
    sys_chown_fd(init->tty, init->orders.uid, init->orders.gid);
    if (columns) {
        const struct winsize size = { .ws_row = (unsigned short)text_number(rows),
                                      .ws_col = (unsigned short)text_number(columns + 1) };

        sys_ioctl(init->tty, TIOCSWINSZ, &size);
    }
}

/* A pipe for the command, so that it can be opened again and any user may, and a pump at its end.
 */
static void init_open_port(struct init *init, unsigned stream)
{
    static const char *const names[] = { ORDERS_STDIN, ORDERS_STDOUT, ORDERS_STDERR };
    int port =
        ports_open(&init->voice, names[stream], (stream == 0 ? O_RDONLY : O_WRONLY) | O_NONBLOCK);
    int ends[2], ours = stream == 0 ? 1 : 0;
    int error = sys_pipe(ends);

    if (error)
        voice_fail(&init->voice, error, "make a pipe", "");
    sys_set_flags(ends[ours], O_NONBLOCK);
    init->streams[stream] = ends[!ours];
    sys_chown_fd(ends[!ours], init->orders.uid, init->orders.gid);
    pump_init(&init->pumps[stream], stream == 0 ? port : ends[0], stream == 0 ? ends[1] : port);
}

static void init_open_streams(struct init *init)
{
    if (init->orders.tty)
        init_open_terminal(init);
    for (unsigned i = 0; i < 3; i++) {
        const char *kind = init->orders.streams[i];

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

/* The command has its own; the init's must go, or a pipe would never end. */
static void init_close_streams(struct init *init)
{
    for (unsigned i = 0; i < 3; i++)
        if (init->streams[i] != init->tty && (i < 2 || init->streams[2] != init->streams[1]))
            sys_close(init->streams[i]);
    if (init->tty >= 0)
        sys_close(init->tty);
}

static void init_obey(struct init *init)
{
    const char *number = text_after(init->line, "signal ");

    if (number && init->command)
        sys_kill(-init->command, (int)text_number(number));
}

/* Lines may come in any pieces; one that is too long is nothing we know. */
static void init_listen(struct init *init)
{
    char bytes[256];
    long got = sys_read(init->voice.control, bytes, sizeof(bytes));

    if (got <= 0)
        sys_power_off(); /* the host is gone */
    for (long i = 0; i < got; i++) {
        if (bytes[i] != '\n') {
            if (init->line_length < sizeof(init->line) - 1)
                init->line[init->line_length++] = bytes[i];
            continue;
        }
        init->line[init->line_length] = '\0';
        init->line_length = 0;
        init_obey(init);
    }
}

/* The command, and the orphans of its family. Returns 0 if some live, else that there is none. */
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

/* Waits for whatever comes next, and does what is due. */
static void init_turn(struct init *init)
{
    struct pollfd set[INIT_STREAMS + 6] = {
        [INIT_SIGNALS] = { .fd = init->signals, .events = POLLIN },
        [INIT_CONTROL] = { .fd = init->voice.control, .events = POLLIN },
    };
    char told[128];

    for (unsigned i = 0; i < 3; i++)
        pump_prepare(&init->pumps[i], &set[INIT_STREAMS + 2 * i]);
    sys_poll(set, INIT_STREAMS + 6, NULL);

    for (unsigned i = 0; i < 3; i++)
        pump_run(&init->pumps[i], &set[INIT_STREAMS + 2 * i]);
    if (set[INIT_CONTROL].revents)
        init_listen(init);
    if (set[INIT_SIGNALS].revents && sys_read(init->signals, told, sizeof(told)) > 0)
        init_reap(init, WNOHANG);
}

/* The command has ended; so does all it left behind, and then its streams. */
static void init_end(struct init *init)
{
    pump_close(&init->pumps[0]);
    sys_kill(-1, SIGKILL);
    init_reap(init, 0);
    while (init->pumps[1].to >= 0 || init->pumps[2].to >= 0)
        init_turn(init);
    root_leave(&init->voice, init->orders.lists[ORDERS_SHARE]);
    if (WIFEXITED(init->status))
        voice_say_number(&init->voice, "exit", WEXITSTATUS(init->status));
    else
        voice_say_number(&init->voice, "signal", WTERMSIG(init->status));
}

static void init_set_up(struct init *init)
{
    const uint64_t children = 1ull << (SIGCHLD - 1);

    root_mount_kernel(&init->voice);
    init_read_orders(init);
    init_load_modules(init);
    ports_check(&init->voice);
    init->voice.control = ports_open(&init->voice, ORDERS_CONTROL, O_RDWR);
    init_open_streams(init);
    voice_say(&init->voice, "ready");

    root_build(&init->voice, init->orders.lists[ORDERS_SHARE]);
    if (init->orders.hostname)
        sys_set_hostname(init->orders.hostname, strlen(init->orders.hostname));
    network_start(&init->voice, init->orders.network);
    sys_mask_signals(SIG_BLOCK, children);
    init->signals = sys_signal_fd(children);
}

void init_main(void)
{
    struct init init = { .voice = { .control = -1, .log = -1 }, .tty = -1 };

    init_set_up(&init);
    init.command = command_start(&init.voice, &init.orders, init.streams, init.tty);
    init_close_streams(&init);
    if (init.command) {
        while (init.command)
            init_turn(&init);
        init_end(&init);
    }
    voice_wait_for_end();
}
