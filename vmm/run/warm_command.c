/* SPDX-License-Identifier: MIT */
#include "vmm/run/warm_command.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/cli/status.h"
#include "vmm/core/arena.h"
#include "vmm/core/log.h"
#include "vmm/run/options.h"
#include "vmm/run/supervisor.h"
#include "vmm/run/warm.h"

struct warm_options {
    bool list;
    const char *drop;
};

static const struct option warm_options[] = {
    { .name = "list",
      .help = "print the warm machines: name, size, last use, and what they are kept by",
      .read = option_read_flag,
      .at = offsetof(struct warm_options, list) },
    { .name = "drop",
      .argument = "NAME|all",
      .help = "remove one, or all; machines that run from it keep what they need",
      .read = option_read_text,
      .at = offsetof(struct warm_options, drop),
      .min = 1 },
    { .name = "help", .letter = 'h', .help = "print this help", .read = option_print_help },
    { .name = NULL },
};

const struct option_table warm_table = {
    .program = "minivmm warm",
    .usage =
        "NAME [--on-fork COMMAND] [OPTION of run]... [--] [CMD [ARG]...] | --list | --drop NAME",
    .options = warm_options,
};

static int warm_make(int argc, char **argv)
{
    if (warm_is_name(argv[0]))
        return supervisor_warm(argc, argv);
    log_refuse(EINVAL,
               "'%s' cannot be a name: letters, digits, - and _, at most %d, not \"all\" (see %s "
               "--help)",
               argv[0], WARM_NAME_SIZE - 1, warm_table.program);
    return STATUS_FAILED;
}

/* Does the word belong behind a name? */
static bool warm_lacks_name(const char *word)
{
    return !strcmp(word, "--") ||
           (option_is_of(&run_options_table, word) && !option_is_of(&warm_table, word));
}

int warm_main(int argc, char **argv)
{
    struct warm_options options = { .drop = NULL };
    struct arena arena = { NULL };
    struct option_reader reader = { .table = &warm_table, .base = &options, .arena = &arena };
    char **words = argv + 1;
    int result = 0;

    if (*words && **words != '-')
        return warm_make(argc - 1, words);
    if (*words && warm_lacks_name(*words)) {
        log_refuse(EINVAL, "'%s': the machine's NAME comes first (see %s --help)", *words,
                   warm_table.program);
        return STATUS_USAGE;
    }
    while (!result && *words)
        result = option_read_next(&reader, &words);
    arena_free(&arena);
    if (result)
        return result > 0 ? EXIT_SUCCESS : STATUS_USAGE;
    if (options.list == !!options.drop) {
        log_refuse(EINVAL, "expected a name, --list or --drop (see %s --help)", warm_table.program);
        return STATUS_USAGE;
    }
    return (options.list ? warm_list() : warm_drop(options.drop)) ? STATUS_FAILED : EXIT_SUCCESS;
}
