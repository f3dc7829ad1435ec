/* SPDX-License-Identifier: MIT */
#include "vmm/board/consoles.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "devices/console/terminal.h"
#include "vmm/board/board.h"
#include "vmm/config/config.h"
#include "vmm/core/cleanup.h"
#include "vmm/core/log.h"
#include "vmm/core/open.h"

#define OUTPUT_DRAIN_MS 2000 /* how long a slow reader may take for the last output */
#define PORT_DRAIN_MS   500  /* less for ports: their device's reset has drained them already */

/* Applies config->max to the file just opened. Only a regular file has a size. */
static int consoles_limit(const struct console_config *config, int fd, struct terminal_config *host)
{
    struct stat st;

    if (fstat(fd, &st) < 0)
        return log_error(errno, "%s", config->path);
    if ((uint64_t)st.st_size < config->max) {
        host->max = config->max - (uint64_t)st.st_size;
        return 0;
    }
    log_warn("%s has reached max=SIZE: all output is dropped", config->path);
    host->output = -1;
    return 0;
}

/* Creates the terminal of --serial or --console. */
static int consoles_open_terminal(struct terminal **ret, int *ret_fd, struct board *board,
                                  const struct console_config *config, struct terminal_config host)
{
    int error;

    host.input = host.output = -1;
    switch (config->kind) {
    case CONSOLE_NONE:
        break;
    case CONSOLE_STDIO:
        host.input = STDIN_FILENO;
        host.output = STDOUT_FILENO;
        break;
    case CONSOLE_FD:
        host.input = host.output = config->fd;
        break;
    case CONSOLE_FILE:
        *ret_fd = open_output(config->path, config->append ? O_APPEND : O_TRUNC, 0666);
        if (*ret_fd < 0)
            return open_error("open", config->path);
        host.output = *ret_fd;
        if (config->max && (error = consoles_limit(config, *ret_fd, &host)))
            return error;
        break;
    }
    return terminal_create(ret, &host, board->host.loop);
}

/* Sets *ret to `fd`, or to -1 if its access mode is `wrong_mode`. */
static int consoles_check_fd(int *ret, const char *port, int fd, int wrong_mode)
{
    int flags = fd < 0 ? wrong_mode : fcntl(fd, F_GETFL);

    if (flags < 0)
        return log_error(errno, "port %s: descriptor %d", port, fd);
    *ret = (flags & O_ACCMODE) == wrong_mode ? -1 : fd;
    return 0;
}

/*
 * Replaces a stream's output, unless it is its input as well, by /dev/null: the duplicates of the
 * terminals must be the only ones left. After all terminals have theirs: several ports may share an
 * output.
 */
static int consoles_release_output(const struct port_config *port)
{
    int mode = port->output < 0 ? O_RDONLY : fcntl(port->output, F_GETFL) & O_ACCMODE;
    cleanup_close int null = -1;

    if (port->console || mode == O_RDONLY || (mode == O_RDWR && port->input == port->output))
        return 0;
    null = open("/dev/null", O_WRONLY | O_CLOEXEC);
    return null < 0 || dup3(null, port->output, O_CLOEXEC) < 0
               ? log_error(errno, "port %s", port->name)
               : 0;
}

static int consoles_open_port(struct board *board, const struct port_config *config,
                              struct terminal_config host)
{
    int error;

    if (board->stream_count + !!board->console == VIRTIO_CONSOLE_PORTS)
        return log_refuse(ENOSPC, "--port: a console has room for %d ports", VIRTIO_CONSOLE_PORTS);
    if ((error = consoles_check_fd(&host.input, config->name, config->input, O_WRONLY)) ||
        (error = consoles_check_fd(&host.output, config->name, config->output, O_RDONLY)))
        return error;
    host.stream = !config->console;
    host.held = config->held;
    error = terminal_create(&board->streams[board->stream_count], &host, board->host.loop);
    if (!error)
        board->stream_count++;
    return error;
}

int consoles_open(struct board *board, const struct terminal_config *host)
{
    const struct config *config = board->config;
    int error =
        consoles_open_terminal(&board->serial, &board->serial_fd, board, &config->serial, *host);

    if (!error && config->console.kind != CONSOLE_NONE)
        error = consoles_open_terminal(&board->console, &board->console_fd, board, &config->console,
                                       *host);
    for (const struct port_config *port = config->ports; port && !error; port = port->next)
        error = consoles_open_port(board, port, *host);
    for (const struct port_config *port = config->ports; port && !error; port = port->next)
        error = consoles_release_output(port);
    return error;
}

void consoles_close(struct board *board)
{
    terminal_close(board->console, OUTPUT_DRAIN_MS);
    terminal_close(board->serial, OUTPUT_DRAIN_MS);
}

void consoles_destroy(struct board *board)
{
    terminal_destroy(board->console, OUTPUT_DRAIN_MS);
    terminal_destroy(board->serial, OUTPUT_DRAIN_MS);
    for (unsigned i = 0; i < board->stream_count; i++)
        terminal_destroy(board->streams[i], PORT_DRAIN_MS);
    if (board->serial_fd >= 0)
        close(board->serial_fd);
    if (board->console_fd >= 0)
        close(board->console_fd);
}

void consoles_each(const struct board *board, void (*fn)(struct terminal *terminal))
{
    if (board->serial)
        fn(board->serial);
    if (board->console)
        fn(board->console);
    for (unsigned i = 0; i < board->stream_count; i++)
        fn(board->streams[i]);
}

bool consoles_lost_output(const struct board *board)
{
    bool lost = false;

    for (unsigned i = 0; i < board->stream_count; i++)
        lost |= terminal_lost_output(board->streams[i]);
    return lost;
}
