/* SPDX-License-Identifier: MIT */
#include "firmware/init/network.h"

#include <endian.h>
#include <errno.h>
#include <linux/if.h>
#include <linux/in.h>
#include <linux/ipv6.h> /* with the C library's netinet/in.h it compiles only if that is GNU's */
#include <linux/ipv6_route.h>
#include <linux/route.h>
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

/* Sets a parameter, if the kernel has it. */
static void network_write(const char *path, const char *value)
{
    int fd = sys_open(path, O_WRONLY);

    if (fd >= 0) {
        sys_write(fd, value, strlen(value));
        sys_close(fd);
    }
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

static int network_configure(int fd, const char *name)
{
    int error = network_set(fd, name, SIOCSIFADDR, USER_NETWORK_GUEST);

    if (!error)
        error = network_set(fd, name, SIOCSIFNETMASK, USER_NETWORK_MASK);
    if (!error)
        error = network_up(fd, name);
    return error ? error : network_route(fd);
}

/*
 * With an address and a route of its own the guest need not wait for the router's announcement, nor
 * with accept_dad off for the time in which another machine might object to the address.
 */
static int network_configure6(int fd, const char *name)
{
    struct ifreq nic = { .ifr_ifindex = 0 };
    struct in6_ifreq address = { .ifr6_addr.s6_addr = { USER_NETWORK6_GUEST },
                                 .ifr6_prefixlen = 64 };
    struct in6_rtmsg route = { .rtmsg_gateway.s6_addr = { USER_NETWORK6_GATEWAY },
                               .rtmsg_flags = RTF_UP | RTF_GATEWAY,
                               .rtmsg_metric = 1024 };
    struct text path = { .used = 0 };
    int fd6, error;

    text_add(&path, "/proc/sys/net/ipv6/conf/");
    text_add(&path, name);
    text_add(&path, "/accept_dad");
    network_write(path.bytes, "0");
    memcpy(nic.ifr_name, name, strlen(name));
    error = sys_ioctl(fd, SIOCGIFINDEX, &nic);
    fd6 = error ? error : sys_socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC);
    if (fd6 < 0)
        return fd6;
    address.ifr6_ifindex = route.rtmsg_ifindex = nic.ifr_ifindex;
    error = sys_ioctl(fd6, SIOCSIFADDR, &address);
    if (!error)
        error = sys_ioctl(fd6, SIOCADDRT, &route);
    sys_close(fd6);
    return error;
}

void network_start(const struct message_sink *sink, const char *name, bool ipv6)
{
    int fd = sys_socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC);
    int error = fd < 0 ? fd : network_up(fd, "lo");

    if (error)
        message_send_note(sink, error, "bring up the loopback interface", "");
    network_write("/proc/sys/net/ipv4/ping_group_range", "0 2147483647");
    if (name) {
        error = fd < 0 ? fd : network_configure(fd, name);
        if (error == -ENODEV)
            message_fail(sink, error, "configure the network: this kernel has no virtio_net", "");
        if (error)
            message_fail(sink, error, "configure the network interface ", name);
        if (ipv6 && (error = network_configure6(fd, name)))
            message_send_note(sink, error, "no name server: configure IPv6 of ", name);
    }
    if (fd >= 0)
        sys_close(fd);
}
