/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "vmm/config.h"
#include "vmm/log.h"
#include "vmm/run.h"
#include "vmm/status.h"

/* Nothing we open may become somebody's standard output: closed ones lead to /dev/null. */
static void open_standard_descriptors(void)
{
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
        if (fcntl(fd, F_GETFD) < 0 && errno == EBADF && open("/dev/null", O_RDWR) < 0)
            _exit(STATUS_FAILED); /* with nowhere to say why */
}

int main(int argc, char **argv)
{
    struct config config;
    int status = STATUS_USAGE;

    open_standard_descriptors();
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
