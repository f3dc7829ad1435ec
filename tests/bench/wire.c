/* SPDX-License-Identifier: MIT */

/*
 *     wire serve ADDR PORT               performs the transfers that clients request
 *     wire TRANSFER ADDR PORT COUNT      requests one and waits until it is done
 *
 * upload and download are streams of COUNT bytes, from and to the client. pingpong: a byte there
 * and a byte back, COUNT times, over TCP. datagrams: COUNT small ones there and back, several in
 * flight. The server prints each transfer with its duration in nanoseconds.
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

#define PIECE    (128 << 10) /* bytes per system call */
#define DATAGRAM 64          /* bytes */
#define WINDOW   32          /* datagrams in flight */

struct transfer {
    char name[16];
    uint64_t count;
};

static char piece[PIECE];

static void check(int truth, const char *what)
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

        check(n > 0, "send");
        count -= (uint64_t)n;
    }
}

static void get(int fd, uint64_t count)
{
    while (count > 0) {
        ssize_t n = recv(fd, piece, part(count), 0);

        check(n > 0, "receive");
        count -= (uint64_t)n;
    }
}

/* Server and client of each transfer: `tcp` carried the request, `udp` is for datagrams. */
static void serve_upload(int tcp, int udp, uint64_t count)
{
    get(tcp, count);
    put(tcp, 1);
}

static void request_upload(int tcp, int udp, uint64_t count)
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

static void request_pingpong(int tcp, int udp, uint64_t count)
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

        check(n == DATAGRAM, "receive a datagram");
        n = sendto(udp, piece, DATAGRAM, 0, (struct sockaddr *)&from, size);
        check(n == DATAGRAM, "send a datagram");
    }
}

static void request_datagrams(int tcp, int udp, uint64_t count)
{
    for (uint64_t sent = 0, back = 0; back < count;) {
        if (sent < count && sent - back < WINDOW) {
            check(send(udp, piece, DATAGRAM, 0) == DATAGRAM, "send a datagram");
            sent++;
        } else {
            check(recv(udp, piece, PIECE, 0) == DATAGRAM, "receive a datagram");
            back++;
        }
    }
}

static const struct {
    const char *name;
    void (*serve)(int tcp, int udp, uint64_t count);
    void (*request)(int tcp, int udp, uint64_t count);
} transfers[] = {
    { "upload", serve_upload, request_upload },
    { "download", request_upload, serve_upload },
    { "pingpong", serve_pingpong, request_pingpong },
    { "datagrams", serve_datagrams, request_datagrams },
};

static unsigned find_transfer(const char *name)
{
    for (unsigned i = 0; i < sizeof(transfers) / sizeof(*transfers); i++)
        if (!strcmp(transfers[i].name, name))
            return i;
    fprintf(stderr, "wire: unknown transfer %s\n", name);
    exit(2);
}

static int open_socket(int type)
{
    struct timeval timeout = { .tv_sec = 60 };
    int fd = socket(AF_INET, type, 0), yes = 1;

    check(fd >= 0, "socket");
    if (type == SOCK_STREAM) {
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof(yes));
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes));
    } else {
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout));
    }
    return fd;
}

static void run_server(const struct sockaddr_in *addr)
{
    int udp = open_socket(SOCK_DGRAM), listener = open_socket(SOCK_STREAM);

    check(bind(udp, (const struct sockaddr *)addr, sizeof(*addr)) == 0, "bind");
    check(bind(listener, (const struct sockaddr *)addr, sizeof(*addr)) == 0, "bind");
    check(listen(listener, 1) == 0, "listen");
    setvbuf(stdout, NULL, _IOLBF, 0);
    for (;;) {
        int tcp = accept(listener, NULL, NULL); /* inherits TCP_NODELAY */
        struct transfer transfer = { 0 };
        uint64_t begin;
        unsigned index;

        check(tcp >= 0, "accept");
        check(recv(tcp, &transfer, sizeof(transfer), MSG_WAITALL) == sizeof(transfer),
              "receive a request");
        index = find_transfer(transfer.name);
        begin = now_ns();
        transfers[index].serve(tcp, udp, transfer.count);
        printf("%s %llu %llu\n", transfer.name, (unsigned long long)transfer.count,
               (unsigned long long)(now_ns() - begin));
        close(tcp);
    }
}

static void run_client(const char *name, const struct sockaddr_in *addr, uint64_t count)
{
    int udp = open_socket(SOCK_DGRAM), tcp = open_socket(SOCK_STREAM);
    struct transfer transfer = { .count = count };
    unsigned index = find_transfer(name);

    strcpy(transfer.name, transfers[index].name);
    check(connect(udp, (const struct sockaddr *)addr, sizeof(*addr)) == 0, "connect");
    check(connect(tcp, (const struct sockaddr *)addr, sizeof(*addr)) == 0, "connect");
    check(send(tcp, &transfer, sizeof(transfer), 0) == sizeof(transfer), "send a request");
    transfers[index].request(tcp, udp, count);
    recv(tcp, piece, 1, 0); /* waits until the server has closed the connection */
}

int main(int argc, char **argv)
{
    struct sockaddr_in addr = { .sin_family = AF_INET };

    if (argc < 4 || inet_pton(AF_INET, argv[2], &addr.sin_addr) != 1) {
        fputs("usage: wire serve ADDR PORT | wire TRANSFER ADDR PORT COUNT\n", stderr);
        return 2;
    }
    addr.sin_port = htons((uint16_t)strtoul(argv[3], NULL, 10));
    if (argc == 4)
        run_server(&addr);
    else
        run_client(argv[1], &addr, strtoull(argv[4], NULL, 10));
    return 0;
}
