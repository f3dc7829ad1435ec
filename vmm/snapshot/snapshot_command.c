/* SPDX-License-Identifier: MIT */
#include "vmm/snapshot/snapshot_command.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vmm/cli/status.h"
#include "vmm/control/client.h"
#include "vmm/control/json.h"
#include "vmm/control/socket.h"
#include "vmm/core/arena.h"
#include "vmm/core/cleanup.h"
#include "vmm/core/log.h"
#include "vmm/machine/snapshot.h"
#include "vmm/snapshot/directory.h"
#include "vmm/snapshot/show.h"

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

#define MAX_FILES 64

/* The files of a snapshot, while they are written. */
struct snapshot_outputs {
    int fds[MAX_FILES];
    unsigned count;
};

static int snapshot_add(struct snapshot_outputs *outputs, struct directory *d, const char *name)
{
    int fd = outputs->count < MAX_FILES ? directory_create(d, name) : -EMFILE;

    if (fd < 0)
        return fd;
    outputs->fds[outputs->count++] = fd;
    return 0;
}

/* Files for the state, the memory, and each disk that the machine may write. */
static int snapshot_add_all(struct snapshot_outputs *outputs, struct directory *d,
                            const struct json *config)
{
    const struct json *drives = json_member(config, "drives"), *drive;
    int error = snapshot_add(outputs, d, "state");
    char name[32];

    if (!error)
        error = snapshot_add(outputs, d, "memory");
    for (unsigned i = 0; !error && (drive = json_entry(drives, i)); i++) {
        snprintf(name, sizeof(name), SNAPSHOT_DISK, i);
        if (!json_flag(json_member(drive, "is_read_only")))
            error = snapshot_add(outputs, d, name);
    }
    return error;
}

/* Has the machine fill the directory. */
static int snapshot_write(int socket, struct directory *d, bool stop)
{
    cleanup_free char *answer = malloc(CONTROL_ANSWER_SIZE);
    struct snapshot_outputs outputs = { .count = 0 };
    struct json *config = NULL;
    char why[128];
    int error = answer ? control_ask(socket, "GET", "/vm/config", NULL, NULL, 0, answer) : -ENOMEM;

    if (!error && !(config = json_read(answer, strlen(answer), why, sizeof(why))))
        error = log_refuse(EBADMSG, "the machine's answer cannot be understood: %s", why);
    if (!error)
        error = snapshot_add_all(&outputs, d, config);
    json_free(config);
    if (!error)
        error = control_ask(socket, "PUT", "/snapshot/create", stop ? "{\"stop\":true}" : "{}",
                            outputs.fds, outputs.count, answer);
    for (unsigned i = 0; i < outputs.count; i++) {
        if (!error && fsync(outputs.fds[i]) < 0)
            error = log_error(errno, "write %s", d->path);
        close(outputs.fds[i]);
    }
    return error;
}

static int snapshot_take(const char *path, const char *to, bool stop)
{
    struct directory directory;
    int error = json_open();
    cleanup_close int socket = error ? -1 : control_connect(path);

    if (socket < 0)
        return error ? error : socket;
    error = directory_begin(&directory, to);
    if (!error && !(error = snapshot_write(socket, &directory, stop)))
        error = directory_commit(&directory);
    directory_finish(&directory);
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
    int result = 0;

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
        if (count != 1 || options.stop)
            return snapshot_usage();
        result = options.show ? snapshot_show(words[0]) : snapshot_verify(words[0]);
    } else {
        if (count != 2)
            return snapshot_usage();
        result = snapshot_take(words[0], words[1], options.stop);
    }
    return result ? STATUS_FAILED : EXIT_SUCCESS;
}
