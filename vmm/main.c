/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vmm/cli/boot.h"
#include "vmm/cli/front_end.h"
#include "vmm/cli/status.h"
#include "vmm/config/config.h"
#include "vmm/config/schema.h"
#include "vmm/core/base.h"
#include "vmm/core/log.h"
#include "vmm/run/supervisor.h"

#define DESCRIPTORS 256       /* enough for a machine with every device */
#define STACK_SIZE  (1 * MIB) /* address space; ThreadSanitizer needs more than half of it */

/* If descriptors 0 to 2 are closed, opens /dev/null on them: no file of ours may take them. */
static void open_standard_descriptors(void)
{
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
        if (fcntl(fd, F_GETFD) < 0 && errno == EBADF && open("/dev/null", O_RDWR) < 0)
            _exit(STATUS_FAILED); /* there is no stderr to print to */
}

/*
 * Makes the kernel grow the descriptor table now: that is cheap with one thread. With several, each
 * doubling waits for an RCU grace period, which takes milliseconds.
 */
static void reserve_descriptors(void)
{
    int fd = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, DESCRIPTORS - 1);

    if (fd >= 0) /* fails if RLIMIT_NOFILE is lower, which is harmless */
        close(fd);
}

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
    struct config config;
    int status = STATUS_USAGE;

    open_standard_descriptors();
    front_end_block_signals();
    reserve_descriptors();
    limit_stacks();
    if (argc > 1 && !strcmp(argv[1], "run"))
        exit(supervisor_main(argc - 1, argv + 1));
    switch (config_parse(&config, argc, argv)) {
    case CONFIG_RUN:
        log_set_level(config.log_level);
        status = boot_run(&config);
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
