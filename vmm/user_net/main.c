/* SPDX-License-Identifier: MIT */

/* minivmm-net: the user-mode network of one NIC. devices/net/user.h describes its socket. */
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <slirp/libslirp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "devices/net/net.h"
#include "devices/net/user.h"
#include "vmm/core/log.h"
#include "vmm/core/loop.h"
#include "vmm/user_net/confine.h"
#include "vmm/user_net/options.h"
#include "vmm/user_net/relay.h"

static void network_ended(void *owner)
{
    loop_stop(owner);
}

/* Says to minivmm that the network is ready, or why it will not be. */
static int network_greet(int socket, const char *text)
{
    return send(socket, text, strlen(text), MSG_NOSIGNAL) < 0 ? -errno : 0; /* it may be gone */
}

static int network_open(struct net **ret, const struct network_options *options, struct loop *loop)
{
    char reason[LOG_REASON_SIZE] = "no user-mode network: it could not be started";
    int error;

    log_keep_reason(reason, false);
    error = slirp_open(ret, &options->network, loop);
    log_keep_reason(NULL, true);
    if (error)
        network_greet(options->socket, reason);
    return error;
}

/* 0 when minivmm has closed its end; -errno. */
static int network_run(const struct network_options *options, struct loop *loop)
{
    struct net *net;
    struct relay *relay;
    int error = network_open(&net, options, loop);

    if (error)
        return error;
    log_info("user-mode network: libslirp %s", slirp_version_string());
    relay = relay_create(net, options->socket, loop, network_ended, loop);
    if (!relay)
        return -ENOMEM;
    error = network_greet(options->socket, USER_READY);
    if (error)
        return error;
    confine_network(); /* minivmm need not wait for that; no frame has been read yet */
    loop_run(loop);
    return 0;
}

int main(int argc, char **argv)
{
    struct network_options options;
    struct loop *loop;
    int error = network_options_read(&options, argc, argv);

    if (error)
        return error > 0 ? EXIT_SUCCESS : 2;
    log_set_level(options.log_level);
    if (options.messages >= 0) {
        dup2(options.messages, STDERR_FILENO);
        close(options.messages);
    }
    signal(SIGPIPE, SIG_IGN);
    /* Not to take the CPU from the NIC's thread at each frame that it sends, if both have one. */
    sched_setscheduler(0, SCHED_BATCH, &(struct sched_param){ 0 });
    loop = loop_create();
    if (!loop) {
        log_error(errno, "create an event loop");
        return EXIT_FAILURE;
    }
    /* What is left is the kernel's to free, as after a crash. */
    _exit(network_run(&options, loop) ? EXIT_FAILURE : EXIT_SUCCESS);
}
