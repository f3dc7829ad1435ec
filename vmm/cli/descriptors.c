/* SPDX-License-Identifier: MIT */
#include "vmm/cli/descriptors.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vmm/cli/status.h"
#include "vmm/config/config.h"
#include "vmm/core/base.h"
#include "vmm/core/log.h"
#include "vmm/core/open.h"

#define DESCRIPTORS 256 /* enough for a machine with every device */

/* The lowest descriptor, not below `least`, of those that `word` names after `mark`; or INT_MAX. */
static int descriptors_in_word(const char *word, const char *mark, int least)
{
    int lowest = INT_MAX;

    while ((word = strstr(word, mark))) {
        long fd;

        word += strlen(mark);
        fd = isdigit((unsigned char)*word) ? strtol(word, NULL, 10) : -1;
        if (fd >= least && fd < lowest)
            lowest = (int)fd;
    }
    return lowest;
}

/* The same of all words. */
static int descriptors_next_named(char *const argv[], int least)
{
    static const char *const marks[] = { "fd=", "/fd/" };
    int lowest = INT_MAX;

    for (; *argv; argv++)
        for (unsigned i = 0; i < ARRAY_SIZE(marks); i++) {
            int fd = descriptors_in_word(*argv, marks[i], least);

            lowest = fd < lowest ? fd : lowest;
        }
    return lowest;
}

void descriptors_close_unnamed(char *const argv[])
{
    int first = STDERR_FILENO + 1, named;

    do {
        named = descriptors_next_named(argv, first);
        if (named > first)
            open_close_range((unsigned)first, (unsigned)named - 1);
        first = named < INT_MAX ? named + 1 : named;
    } while (first < INT_MAX);
}

/* Accepts -1: none. */
static int descriptors_check_one(const char *option, const char *name, int fd)
{
    if (fd < 0 || fcntl(fd, F_GETFD) >= 0)
        return 0;
    return log_refuse(EBADF, "%s%s: descriptor %d is not open; a shell opens it by %d<>FILE",
                      option, name, fd, fd);
}

/* The descriptor that a path such as /dev/fd/3 names; -1: none. */
static int descriptors_in_path(const char *path)
{
    static const char *const places[] = { "/dev/fd/", "/proc/self/fd/" };

    for (unsigned i = 0; path && i < ARRAY_SIZE(places); i++) {
        size_t length = strlen(places[i]);
        char *end;
        long fd;

        if (strncmp(path, places[i], length) != 0 || !isdigit((unsigned char)path[length]))
            continue;
        fd = strtol(path + length, &end, 10);
        if (!*end && fd <= INT_MAX)
            return (int)fd;
    }
    return -1;
}

static int descriptors_check_console(const char *option, const struct console_config *console)
{
    int error = descriptors_check_one(option, "", console->fd);

    return error ? error : descriptors_check_one(option, "", descriptors_in_path(console->path));
}

static int descriptors_check_files(const struct config *config)
{
    int error;

    if ((error = descriptors_check_one("kernel", "", descriptors_in_path(config->kernel))) ||
        (error = descriptors_check_one("initrd", "", descriptors_in_path(config->initrd))) ||
        (error = descriptors_check_one("dtb", "", descriptors_in_path(config->dtb))))
        return error;
    for (const struct disk_config *disk = config->disks; disk; disk = disk->next)
        if ((error = descriptors_check_one("disk", "", descriptors_in_path(disk->image.path))))
            return error;
    return 0;
}

int descriptors_check(const struct config *config)
{
    int error;

    if ((error = descriptors_check_console("serial", &config->serial)) ||
        (error = descriptors_check_console("console", &config->console)) ||
        (error = descriptors_check_files(config)))
        return error;
    for (const struct port_config *port = config->ports; port; port = port->next)
        if ((error = descriptors_check_one("port ", port->name, port->input)) ||
            (error = descriptors_check_one("port ", port->name, port->output)))
            return error;
    for (const struct net_config *net = config->nets; net; net = net->next)
        if ((error = descriptors_check_one("net tap", "", net->tap.fd)) ||
            (error = descriptors_check_one("net user", "", net->user.fd)))
            return error;
    return 0;
}

void descriptors_reserve(void)
{
    int fd;

    /* Output to a closed descriptor must still fail, so the stand-in for stdout is read-only. */
    for (fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
        if (fcntl(fd, F_GETFD) < 0 && errno == EBADF &&
            open("/dev/null", fd == STDOUT_FILENO ? O_RDONLY : O_RDWR) < 0) {
            log_error(errno, "open /dev/null as descriptor %d", fd);
            exit(STATUS_FAILED);
        }

    /*
     * The kernel grows the table now, with one thread. With several, each doubling would wait for
     * an RCU grace period, which takes milliseconds.
     */
    fd = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, DESCRIPTORS - 1);
    if (fd >= 0) /* fails if RLIMIT_NOFILE is lower, which is harmless */
        close(fd);
}
