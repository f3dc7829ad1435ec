/* SPDX-License-Identifier: MIT */
#include "vmm/snapshot/snapshot_command.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "vmm/cli/front_end.h"
#include "vmm/cli/status.h"
#include "vmm/control/client.h"
#include "vmm/control/json.h"
#include "vmm/control/socket.h"
#include "vmm/core/arena.h"
#include "vmm/core/cleanup.h"
#include "vmm/core/log.h"
#include "vmm/machine/snapshot_files.h"
#include "vmm/snapshot/draft.h"
#include "vmm/snapshot/show.h"
#include "vmm/snapshot/take.h"

struct snapshot_options {
    bool stop, show, check;
};

static const struct option snapshot_options[] = {
    { .name = "stop",
      .help = "end the machine once it is saved",
      .read = option_read_flag,
      .at = offsetof(struct snapshot_options, stop) },
    { .name = "show",
      .help = "print what a snapshot consists of",
      .read = option_read_flag,
      .at = offsetof(struct snapshot_options, show) },
    { .name = "check",
      .help = "check that a snapshot is whole",
      .read = option_read_flag,
      .at = offsetof(struct snapshot_options, check) },
    { .name = "help", .letter = 'h', .help = "print this help", .read = option_print_help },
    { .name = NULL },
};

const struct option_table snapshot_table = {
    .program = "minivmm snapshot",
    .usage = "[--stop] SOCKET DIR   (a machine with --control SOCKET)\n"
             "       minivmm snapshot --show|--check DIR",
    .options = snapshot_options,
};

/* Waits until they are on the disk. */
static int snapshot_sync(const struct snapshot_files *files, const char *path)
{
    for (unsigned i = 0; i < files->count; i++)
        if (fsync(files->fds[i]) < 0)
            return log_error(errno, "write %s", path);
    return 0;
}

static int snapshot_take_into(const char *path, const char *to, bool stop)
{
    struct draft draft = { .fd = -1 };
    struct snapshot_files files = { .count = 0 };
    struct control_client client;
    sigset_t signals;
    bool written;
    int error = json_open();
    cleanup_close int socket = error ? -1 : control_connect(path), cancel = -1;

    if (socket < 0)
        return error ? error : socket;
    front_end_stop_signals(&signals);
    sigprocmask(SIG_BLOCK, &signals, NULL); /* until nothing is left behind */
    cancel = signalfd(-1, &signals, SFD_CLOEXEC);
    client = (struct control_client){ socket, cancel };
    error = draft_begin(&draft, to);
    if (!error)
        error = take_snapshot(&client, &draft, stop, &files);
    written = !error || error == -EINTR; /* an answer to --stop may have been on its way */
    if (!error && !(error = snapshot_sync(&files, to)))
        error = draft_commit(&draft);
    snapshot_files_close(&files);
    if (written && stop && error)
        draft_abandon(&draft); /* the machine is in these files, and nowhere else */
    draft_finish(&draft);
    sigprocmask(SIG_UNBLOCK, &signals, NULL); /* one that has come meanwhile ends the process */
    return error;
}

static int snapshot_usage(void)
{
    log_refuse(EINVAL, "expected a socket and a directory (see %s --help)", snapshot_table.program);
    return STATUS_USAGE;
}

int snapshot_main(int argc, char **argv)
{
    struct snapshot_options options = { .stop = false };
    struct arena arena = { NULL };
    struct option_reader reader = { .table = &snapshot_table, .base = &options, .arena = &arena };
    const char *words[2] = { NULL, NULL };
    char **at = argv + 1;
    unsigned count = 0;
    sigset_t signals;
    int result = 0;

    front_end_stop_signals(&signals);
    sigprocmask(SIG_UNBLOCK, &signals, NULL);
    while (!result && *at) {
        if ((*at)[0] == '-')
            result = option_read_next(&reader, &at);
        else if (count == 2)
            return snapshot_usage();
        else
            words[count++] = *at++;
    }
    arena_free(&arena);
    if (result)
        return result > 0 ? EXIT_SUCCESS : STATUS_USAGE;
    if (options.show || options.check) {
        if (count != 1 || options.show + options.check + options.stop > 1)
            return snapshot_usage();
        result = options.show ? snapshot_show(words[0]) : snapshot_verify(words[0]);
    } else {
        if (count != 2)
            return snapshot_usage();
        result = snapshot_take_into(words[0], words[1], options.stop);
    }
    return result ? STATUS_FAILED : EXIT_SUCCESS;
}
