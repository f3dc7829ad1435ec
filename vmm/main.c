/* SPDX-License-Identifier: MIT */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/cli/boot.h"
#include "vmm/cli/descriptors.h"
#include "vmm/cli/front_end.h"
#include "vmm/cli/status.h"
#include "vmm/config/config.h"
#include "vmm/config/schema.h"
#include "vmm/core/base.h"
#include "vmm/core/log.h"
#include "vmm/run/options.h"
#include "vmm/run/supervisor.h"
#include "vmm/run/warm_command.h"
#include "vmm/snapshot/snapshot_command.h"

#define STACK_SIZE (1 * MIB) /* address space; ThreadSanitizer needs more than half of it */

/*
 * Threads here, and those of libraries, need little stack. A stack of the usual 8 MiB would get a
 * transparent huge page if the host enables those everywhere: 2 MiB for each thread.
 */
static void limit_stacks(void)
{
    pthread_attr_t attr;

    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, STACK_SIZE);
    pthread_setattr_default_np(&attr);
    pthread_attr_destroy(&attr);
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        int (*run)(int argc, char **argv);
    } commands[] = {
        { "run", supervisor_main }, { "snapshot", snapshot_main }, { "restore", restore_main },
        { "fork", fork_main },      { "rewind", rewind_main },     { "warm", warm_main },
    };
    struct config config;
    int status = STATUS_USAGE;

    front_end_block_signals();
    limit_stacks();
    descriptors_close_unnamed(argv);
    for (unsigned i = 0; i < ARRAY_SIZE(commands) && argc > 1; i++)
        if (!strcmp(argv[1], commands[i].name))
            exit(commands[i].run(argc - 1, argv + 1));
    switch (config_parse(&config, &run_options_table, argc, argv)) {
    case CONFIG_RUN:
        log_set_level(config.log_level);
        status = boot_run(&config, NULL);
        break;
    case CONFIG_DONE:
        status = EXIT_SUCCESS;
        break;
    case CONFIG_USAGE:
        break;
    case CONFIG_FAILED:
        status = STATUS_FAILED;
        break;
    }
    config_finish(&config);
    exit(status);
}
