/* SPDX-License-Identifier: MIT */

/*
 *     hostnet send|receive TAP SIZE MS     the load of guestnet.c, on the host, through a tap
 *     hostnet flood TAP SIZE MS            sends frames to the process that has opened the tap
 *
 * Prints frames, nanoseconds, and nanoseconds of CPU time.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define HEADER 12
#define BATCH  64 /* frames between two reads of the clock */

/* The frame of guestnet.c. */
static uint8_t frame[HEADER + 2048] = {
    [HEADER] = 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x52, 0x54, 0, 0, 0, 9, 0x88, 0xb5
};

static void check(const char *what, int failed)
{
    if (!failed)
        return;
    perror(what);
    exit(1);
}

static uint64_t now_ns(clockid_t clock)
{
    struct timespec now;

    clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static int open_tap(const char *name)
{
    struct ifreq request = { .ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR };
    int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK), header = HEADER;

    check("/dev/net/tun", fd < 0);
    strncpy(request.ifr_name, name, IFNAMSIZ - 1);
    check(name, ioctl(fd, TUNSETIFF, &request) < 0);
    check(name, ioctl(fd, TUNSETVNETHDRSZ, &header) < 0);
    return fd;
}

static int open_flood(const char *name)
{
    struct sockaddr_ll addr = { .sll_family = AF_PACKET, .sll_ifindex = (int)if_nametoindex(name) };
    int fd = socket(AF_PACKET, SOCK_RAW, 0), yes = 1;

    check("packet socket", fd < 0);
    check(name, bind(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0);
    setsockopt(fd, SOL_PACKET, PACKET_QDISC_BYPASS, &yes, sizeof(yes));
    return fd;
}

/* Sends a frame; false if the tap is full. */
static int send_frame(int fd, size_t size)
{
    return write(fd, frame, HEADER + size) >= 0;
}

static int receive_frame(int fd, size_t size)
{
    static uint8_t bytes[HEADER + 65536];

    return read(fd, bytes, sizeof(bytes)) >= 0;
}

static int flood_frame(int fd, size_t size)
{
    return send(fd, frame + HEADER, size, 0) >= 0;
}

static const struct {
    const char *name;
    int (*open)(const char *name);
    int (*step)(int fd, size_t size);
    short event;
} kinds[] = {
    { "send", open_tap, send_frame, POLLOUT },
    { "receive", open_tap, receive_frame, POLLIN },
    { "flood", open_flood, flood_frame, POLLOUT },
};

static void run(unsigned kind, const char *name, size_t size, uint64_t ns)
{
    struct pollfd poller = { .fd = kinds[kind].open(name), .events = kinds[kind].event };
    uint64_t begin = now_ns(CLOCK_MONOTONIC) + ns / 8, end = begin + ns, frames = 0, cpu = 0, now;

    do {
        unsigned done = 0;

        while (done < BATCH && kinds[kind].step(poller.fd, size))
            done++;
        if (done < BATCH)
            poll(&poller, 1, 1);
        now = now_ns(CLOCK_MONOTONIC);
        frames += now >= begin ? done : 0;
        if (now < begin)
            cpu = now_ns(CLOCK_PROCESS_CPUTIME_ID);
    } while (now < end);
    cpu = now_ns(CLOCK_PROCESS_CPUTIME_ID) - cpu;
    printf("%llu %llu %llu\n", (unsigned long long)frames, (unsigned long long)ns,
           (unsigned long long)cpu);
}

int main(int argc, char **argv)
{
    for (unsigned i = 0; argc == 5 && i < sizeof(kinds) / sizeof(*kinds); i++)
        if (!strcmp(kinds[i].name, argv[1])) {
            run(i, argv[2], strtoul(argv[3], NULL, 10), strtoull(argv[4], NULL, 10) * 1000000);
            return 0;
        }
    fputs("usage: hostnet send|receive|flood TAP SIZE MS\n", stderr);
    return 2;
}
