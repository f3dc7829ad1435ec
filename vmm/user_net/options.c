/* SPDX-License-Identifier: MIT */
#include "vmm/user_net/options.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <stddef.h>
#include <sys/socket.h>

#include "vmm/config/option.h"

static_assert(sizeof(enum log_level) == sizeof(unsigned), "option_read_choice stores unsigned");

static int network_read_socket(struct option_reader *r, char *value, void *target)
{
    r->filled = r->base;
    return option_read_number(r, value, target);
}

static const struct option socket_keys[] = {
    { .name = "hostfwd",
      .repeats = true,
      .argument = "[tcp|udp]:[ADDR:]PORT-:PORT",
      .help = "as of minivmm's --net user",
      .read = option_read_forward,
      .at = offsetof(struct network_options, network.forwards) },
    { .name = "host-loopback",
      .help = "as of minivmm's --net user",
      .read = option_read_flag,
      .at = offsetof(struct network_options, network.host_loopback) },
    { .name = "log-level",
      .argument = "error|warn|info|debug",
      .help = "what to print (warn)",
      .read = option_read_choice,
      .at = offsetof(struct network_options, log_level) },
    { .name = "stderr",
      .argument = "N",
      .help = "an open descriptor to print to, instead of standard error",
      .read = option_read_number,
      .at = offsetof(struct network_options, messages),
      .max = INT_MAX },
    { .name = NULL },
};

static const struct option socket_forms[] = {
    { .name = "fd",
      .bare = true,
      .argument = "N",
      .help = "the open descriptor of one end; minivmm gets the other by --net user,fd=M",
      .read = network_read_socket,
      .max = INT_MAX,
      .keys = socket_keys },
    { .name = NULL },
};

static const struct option network_options[] = {
    { .name = "socket",
      .argument = "N[,KEY=VALUE]...",
      .help = "serve the network of one NIC by a pair of SOCK_SEQPACKET sockets",
      .forms = socket_forms,
      .at = offsetof(struct network_options, socket) },
    { .name = "help", .letter = 'h', .help = "print this help", .read = option_print_help },
    { .name = "version", .help = "print the version", .read = option_print_version },
    { .name = NULL },
};

static const struct option_table network_table = {
    .program = "minivmm-net",
    .usage = "--socket N[,KEY=VALUE]...",
    .options = network_options,
};

int network_options_read(struct network_options *ret, int argc, char **argv)
{
    struct option_reader reader = { .table = &network_table, .base = ret, .arena = &ret->arena };
    char **words = argv + (argc > 0);
    int domain = 0, error = 0;
    socklen_t size = sizeof(domain);

    *ret = (struct network_options){ .socket = -1, .messages = -1, .log_level = LOG_LEVEL_WARN };
    while (!error && *words)
        error = option_read_next(&reader, &words);
    if (error)
        return error;
    getsockopt(ret->socket, SOL_SOCKET, SO_DOMAIN, &domain, &size);
    if (domain != AF_UNIX)
        return log_refuse(EINVAL, "minivmm-net is started by minivmm; by hand it needs --socket "
                                  "with an open socket");
    return 0;
}
