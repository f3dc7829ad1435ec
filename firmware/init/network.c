/* SPDX-License-Identifier: MIT */
#include "firmware/init/network.h"

#include <endian.h>
#include <errno.h>
#include <net/if.h>
#include <net/route.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/ioctl.h>

#include "firmware/init/message.h"
#include "firmware/init/root.h"
#include "firmware/init/sys.h"
#include "firmware/init/text.h"
#include "firmware/init/user_network.h"

static struct sockaddr network_address(uint32_t address)
{
    struct sockaddr_in in = { .sin_family = AF_INET, .sin_addr.s_addr = htobe32(address) };
    struct sockaddr result;

    memcpy(&result, &in, sizeof(result));
    return result;
}

static int network_up(int fd, const char *name)
{
    struct ifreq request = { .ifr_flags = IFF_UP | IFF_RUNNING };

    memcpy(request.ifr_name, name, strlen(name));
    return sys_ioctl(fd, SIOCSIFFLAGS, &request);
}

static int network_set(int fd, const char *name, unsigned long what, uint32_t address)
{
    struct ifreq request = { .ifr_addr = network_address(address) };

    memcpy(request.ifr_name, name, strlen(name));
    return sys_ioctl(fd, what, &request);
}

static int network_route(int fd)
{
    const struct rtentry route = {
        .rt_dst = network_address(0),
        .rt_genmask = network_address(0),
        .rt_gateway = network_address(USER_NETWORK_GATEWAY),
        .rt_flags = RTF_UP | RTF_GATEWAY,
    };

    return sys_ioctl(fd, SIOCADDRT, &route);
}

static void network_put_resolver(const struct message_sink *sink)
{
    struct text line = { .used = 0 };

    text_add(&line, "nameserver ");
    for (int shift = 24; shift >= 0; shift -= 8) {
        text_add_number(&line, USER_NETWORK_NAMESERVER >> shift & 0xff);
        text_add(&line, shift ? "." : "\n");
    }
    sys_mkdir("/etc", 0755);
    root_replace_file(sink, "/etc/resolv.conf", line.bytes);
}

static int network_configure(int fd, const char *name)
{
    int error = network_set(fd, name, SIOCSIFADDR, USER_NETWORK_GUEST);

    if (!error)
        error = network_set(fd, name, SIOCSIFNETMASK, USER_NETWORK_MASK);
    if (!error)
        error = network_up(fd, name);
    return error ? error : network_route(fd);
}

void network_start(const struct message_sink *sink, const char *name)
{
    int fd = sys_socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC);
    int error = fd < 0 ? fd : network_up(fd, "lo");

    if (error)
        message_send_note(sink, error, "bring up the loopback interface", "");
    if (name) {
        error = fd < 0 ? fd : network_configure(fd, name);
        if (error == -ENODEV)
            message_fail(sink, error, "configure the network: this kernel has no virtio_net", "");
        if (error)
            message_fail(sink, error, "configure the network interface ", name);
        network_put_resolver(sink);
    }
    if (fd >= 0)
        sys_close(fd);
}
