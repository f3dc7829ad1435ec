/* SPDX-License-Identifier: MIT */
#include "firmware/init/network.h"

#include <endian.h>
#include <errno.h>
#include <net/route.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/ioctl.h>

/* These two have structures of the same names, and sys.h's constants come from either. */
#include <net/if.h>

#include "firmware/init/message.h"
#include "firmware/init/root.h"
#include "firmware/init/sys.h"

/* The place QEMU's users know, without asking the DHCP server for it. */
#define CARD       "eth0"
#define ADDRESS    0x0a00020f /* 10.0.2.15 */
#define NETMASK    0xffffff00
#define GATEWAY    0x0a000202
#define NAMESERVER "nameserver 10.0.2.3\n"

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

static int network_set(int fd, unsigned long what, uint32_t address)
{
    struct ifreq request = { .ifr_name = CARD, .ifr_addr = network_address(address) };

    return sys_ioctl(fd, what, &request);
}

static int network_route(int fd)
{
    const struct rtentry route = {
        .rt_dst = network_address(0),
        .rt_genmask = network_address(0),
        .rt_gateway = network_address(GATEWAY),
        .rt_flags = RTF_UP | RTF_GATEWAY,
    };

    return sys_ioctl(fd, SIOCADDRT, &route);
}

void network_start(const struct voice *voice, bool user)
{
    int fd = sys_socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC);
    int error = fd < 0 ? fd : network_up(fd, "lo");

    if (error)
        voice_note(voice, error, "start the loopback network", "");
    if (user) {
        error = network_set(fd, SIOCSIFADDR, ADDRESS);
        if (!error)
            error = network_set(fd, SIOCSIFNETMASK, NETMASK);
        if (!error)
            error = network_up(fd, CARD);
        if (!error)
            error = network_route(fd);
        if (error)
            voice_note(voice, error, "start the network " CARD, "");
        sys_mkdir("/etc", 0755);
        root_put_file(voice, "/etc/resolv.conf", NAMESERVER);
    }
    if (fd >= 0)
        sys_close(fd);
}
