/* SPDX-License-Identifier: MIT */

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include "vmm/cli/front_end.h"
#include "vmm/cli/status.h"
#include "vmm/control/client.h"
#include "vmm/control/json.h"
#include "vmm/control/socket.h"
#include "vmm/core/arena.h"
#include "vmm/core/cleanup.h"
#include "vmm/core/log.h"
#include "vmm/snapshot/snapshot_command.h"

/* `minivmm rewind`. */
static const struct option rewind_options[] = {
    { .name = "help", .letter = 'h', .help = "print this help", .read = option_print_help },
    { .name = NULL },
};

const struct option_table rewind_table = {
    .program = "minivmm rewind",
    .usage = "SOCKET   (a machine that minivmm restore DIR --control SOCKET has started)",
    .options = rewind_options,
};

static int rewind_machine(const char *path)
{
    cleanup_free char *answer = malloc(CONTROL_ANSWER_SIZE);
    int error = answer ? json_open() : log_error(ENOMEM, "rewind");
    cleanup_close int socket = error ? -1 : control_connect(path);
    const struct control_client client = { socket, -1 };

    if (socket < 0)
        return error ? error : socket;
    return control_ask(&client, "PUT", "/snapshot/rewind", "{}", NULL, 0, answer);
}

int rewind_main(int argc, char **argv)
{
    struct arena arena = { NULL };
    struct option_reader reader = { .table = &rewind_table, .arena = &arena };
    char **words = argv + 1;
    sigset_t signals;
    int result = 0;

    front_end_stop_signals(&signals);
    sigprocmask(SIG_UNBLOCK, &signals, NULL); /* there is nothing that it could leave behind */
    if (*words && (*words)[0] == '-')
        result = option_read_next(&reader, &words);
    arena_free(&arena);
    if (result)
        return result > 0 ? EXIT_SUCCESS : STATUS_USAGE;
    if (argc != 2) {
        log_refuse(EINVAL, "expected a socket (see %s --help)", rewind_table.program);
        return STATUS_USAGE;
    }
    return rewind_machine(*words) ? STATUS_FAILED : EXIT_SUCCESS;
}
