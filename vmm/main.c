/* SPDX-License-Identifier: MIT */
#include <stdlib.h>

#include "vmm/config.h"
#include "vmm/log.h"
#include "vmm/run.h"
#include "vmm/status.h"

int main(int argc, char **argv)
{
    struct config config;
    int status = STATUS_USAGE;

    run_block_signals();
    switch (config_parse(&config, argc, argv)) {
    case CONFIG_RUN:
        log_set_level(config.log_level);
        status = run_machine(&config);
        break;
    case CONFIG_DONE:
        status = EXIT_SUCCESS;
        break;
    case CONFIG_USAGE:
        break;
    }
    config_finish(&config);
    exit(status);
}
