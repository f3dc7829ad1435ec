/* SPDX-License-Identifier: MIT */

/*
 *     wire serve ADDR PORT            carries out orders, one after the other
 *     wire ORDER ADDR PORT COUNT      gives one, and waits until it is done
 *
 * upload and download are streams of COUNT bytes, seen from who gives the order. pingpong: a byte
 * there and a byte back, COUNT times, over TCP. datagrams: COUNT small ones there and back, some
 * always under way. The server prints each order with the nanoseconds it took by its own clock.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define PIECE    (128 << 10) /* bytes that one system call moves */
#define DATAGRAM 64          /* bytes */
#define WINDOW   32          /* datagrams under way */

struct order {
    char name[16];
    uint64_t count;
};

static char piece[PIECE];

static void demand(int truth, const char *what)
{
    if (truth)
        return;
    perror(what);
    exit(1);
}

static uint64_t now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static size_t part(uint64_t left)
{
    return left < PIECE ? (size_t)left : PIECE;
}

static void put(int fd, uint64_t count)
{
    while (count > 0) {
        ssize_t n = send(fd, piece, part(count), MSG_NOSIGNAL);

        demand(n > 0, "send");
        count -= (uint64_t)n;
    }
}

static void get(int fd, uint64_t count)
{
    while (count > 0) {
        ssize_t n = recv(fd, piece, part(count), 0);

        demand(n > 0, "receive");
        count -= (uint64_t)n;
    }
}

/* The two ends of each order: `tcp` is how it came, `udp` a socket beside it. */
static void serve_upload(int tcp, int udp, uint64_t count)
{
    get(tcp, count);
    put(tcp, 1);
}

static void order_upload(int tcp, int udp, uint64_t count)
{
    put(tcp, count);
    get(tcp, 1);
}

static void serve_pingpong(int tcp, int udp, uint64_t count)
{
    while (count-- > 0) {
        get(tcp, 1);
        put(tcp, 1);
    }
}

static void order_pingpong(int tcp, int udp, uint64_t count)
{
    while (count-- > 0) {
        put(tcp, 1);
        get(tcp, 1);
    }
}

static void serve_datagrams(int tcp, int udp, uint64_t count)
{
    while (count-- > 0) {
        struct sockaddr_in from;
        socklen_t size = sizeof(from);
        ssize_t n = recvfrom(udp, piece, PIECE, 0, (struct sockaddr *)&from, &size);

        demand(n == DATAGRAM, "receive a datagram");
        n = sendto(udp, piece, DATAGRAM, 0, (struct sockaddr *)&from, size);
        demand(n == DATAGRAM, "send a datagram");
    }
}

static void order_datagrams(int tcp, int udp, uint64_t count)
{
    for (uint64_t sent = 0, back = 0; back < count;) {
        if (sent < count && sent - back < WINDOW) {
            demand(send(udp, piece, DATAGRAM, 0) == DATAGRAM, "send a datagram");
            sent++;
        } else {
            demand(recv(udp, piece, PIECE, 0) == DATAGRAM, "receive a datagram");
            back++;
        }
    }
}

static const struct {
    const char *name;
    void (*serve)(int tcp, int udp, uint64_t count);
    void (*order)(int tcp, int udp, uint64_t count);
} orders[] = {
    { "upload", serve_upload, order_upload },
    { "download", order_upload, serve_upload },
    { "pingpong", serve_pingpong, order_pingpong },
    { "datagrams", serve_datagrams, order_datagrams },
};

static unsigned find_order(const char *name)
{
    for (unsigned i = 0; i < sizeof(orders) / sizeof(*orders); i++)
        if (!strcmp(orders[i].name, name))
            return i;
    fprintf(stderr, "wire: no order %s\n", name);
    exit(2);
}

static int open_socket(int type)
{
    struct timeval patience = { .tv_sec = 60 };
    int fd = socket(AF_INET, type, 0), yes = 1;

    demand(fd >= 0, "socket");
    if (type == SOCK_STREAM) {
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof(yes));
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes));
    } else {
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    }
    return fd;
}

static void serve(const struct sockaddr_in *addr)
{
    int udp = open_socket(SOCK_DGRAM), listener = open_socket(SOCK_STREAM);

    demand(bind(udp, (const struct sockaddr *)addr, sizeof(*addr)) == 0, "bind");
    demand(bind(listener, (const struct sockaddr *)addr, sizeof(*addr)) == 0, "bind");
    demand(listen(listener, 1) == 0, "listen");
    setvbuf(stdout, NULL, _IOLBF, 0);
    for (;;) {
        int tcp = accept(listener, NULL, NULL); /* inherits TCP_NODELAY */
        struct order order = { 0 };
        uint64_t begin;
        unsigned index;

        demand(tcp >= 0, "accept");
        demand(recv(tcp, &order, sizeof(order), MSG_WAITALL) == sizeof(order), "receive an order");
        index = find_order(order.name);
        begin = now_ns();
        orders[index].serve(tcp, udp, order.count);
        printf("%s %llu %llu\n", order.name, (unsigned long long)order.count,
               (unsigned long long)(now_ns() - begin));
        close(tcp);
    }
}

static void give(const char *name, const struct sockaddr_in *addr, uint64_t count)
{
    int udp = open_socket(SOCK_DGRAM), tcp = open_socket(SOCK_STREAM);
    struct order order = { .count = count };
    unsigned index = find_order(name);

    strcpy(order.name, orders[index].name);
    demand(connect(udp, (const struct sockaddr *)addr, sizeof(*addr)) == 0, "connect");
    demand(connect(tcp, (const struct sockaddr *)addr, sizeof(*addr)) == 0, "connect");
    demand(send(tcp, &order, sizeof(order), 0) == sizeof(order), "send an order");
    orders[index].order(tcp, udp, count);
    recv(tcp, piece, 1, 0); /* until the server has hung up */
}

int main(int argc, char **argv)
{
    struct sockaddr_in addr = { .sin_family = AF_INET };

    if (argc < 4 || inet_pton(AF_INET, argv[2], &addr.sin_addr) != 1) {
        fputs("usage: wire serve ADDR PORT | wire ORDER ADDR PORT COUNT\n", stderr);
        return 2;
    }
    addr.sin_port = htons((uint16_t)strtoul(argv[3], NULL, 10));
    if (argc == 4)
        serve(&addr);
    else
        give(argv[1], &addr, strtoull(argv[4], NULL, 10));
    return 0;
}
