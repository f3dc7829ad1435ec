/* SPDX-License-Identifier: MIT */

/*
 * Clients of the control socket that send anything, at any time, while the machine pauses, resets
 * and stops; with a fake of lifecycle.c. Whatever has happened, a further client is answered then,
 * and a machine that was not told to stop can run.
 *
 *     input := action...     action := u8 kind and number of the client  (a length and bytes)
 */
#include "vmm/control/server.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "tests/fuzz/fuzz.h"
#include "vmm/config/config.h"
#include "vmm/control/json.h"
#include "vmm/core/base.h"
#include "vmm/core/log.h"
#include "vmm/machine/machine.h"
#include "vmm/machine/snapshot.h"

#define CLIENTS 8 /* that the input commands */

enum { CONNECT, CLOSE, HALF_CLOSE, SEND, ASK, RECEIVE, ADVANCE, FAIL, RESET, STOP, TURN, ACTIONS };

/* Requests that are well formed. With a flag, descriptors come with them. */
static const char *const requests[] = {
    "GET / HTTP/1.1\r\n\r\n",
    "GET /vm/config HTTP/1.1\r\n\r\n",
    "PATCH /vm HTTP/1.1\r\nContent-Length: 18\r\n\r\n{\"state\":\"Paused\"}",
    "PATCH /vm HTTP/1.1\r\nContent-Length: 19\r\n\r\n{\"state\":\"Resumed\"}",
    "PUT /snapshot/create HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}",
    "PUT /snapshot/create HTTP/1.1\r\nContent-Length: 13\r\n\r\n{\"stop\":true}",
    "PUT /snapshot/create HTTP/1.1\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}",
    "nonsense\r\n\r\n",
    "PUT /snapshot/rewind HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}",
};

static struct fake {
    enum life_state state;
    bool pause, resume, reset, stop; /* as of struct lifecycle */
    void (*work)(void *owner);
    void *owner;
    bool fails; /* the next pause or snapshot */
} fake;

static struct disk_config disks[2] = {
    { .image = { .path = "/disk \xff\"\\" }, .next = &disks[1] },
    { .image = { .path = "/read-only", .read_only = true } },
};
static const struct config config = { .cpus = 1, .memory = MIB, .disks = disks };
static struct machine machine = { .config = &config };
static struct lifecycle life = { .machine = &machine };
static struct loop *loop;
static struct control *control;
static int clients[CLIENTS];

/* The fake. */

void lifecycle_pause(struct lifecycle *l, uint32_t timeout_ms)
{
    fake.pause = true;
    fake.resume = false;
}

void lifecycle_resume(struct lifecycle *l)
{
    fake.resume = true;
    fake.pause = false;
}

void lifecycle_leave(struct lifecycle *l)
{
    demand(fake.state == LIFE_PAUSED);
    fake.stop = true;
}

void lifecycle_fail(struct lifecycle *l)
{
    demand(fake.state == LIFE_PAUSED);
    fake.stop = true;
}

enum life_state lifecycle_state(struct lifecycle *l)
{
    return fake.state;
}

bool lifecycle_work(struct lifecycle *l, void (*work)(void *owner), void *owner)
{
    demand(fake.state == LIFE_PAUSED && !fake.work);
    if (fake.fails) {
        fake.fails = false;
        return false;
    }
    fake.work = work;
    fake.owner = owner;
    return true;
}

int snapshot_save(struct machine *m, const struct snapshot_files *files, char *why, size_t size)
{
    demand(fake.state == LIFE_PAUSED && files->count == SNAPSHOT_FD_DISKS + 1);
    for (unsigned i = 0; i < files->count; i++)
        demand(dup2(files->fds[i], files->fds[i]) >= 0); /* still open */
    if (fake.fails)
        snprintf(why, size, "write: \"\xe4\x01");
    fake.fails = false;
    return 0;
}

int snapshot_rewind(struct machine *m, char *why, size_t size)
{
    bool fails = fake.fails;

    demand(fake.state == LIFE_PAUSED);
    if (fails)
        snprintf(why, size, "MSR");
    fake.fails = false;
    return fails ? -EIO : 0;
}

static void notify(enum life_event event)
{
    control_on_event(control, event, "blk0");
}

/* As lifecycle.c does: what is pending, by rank. True if anything happened. */
static bool advance(void)
{
    void (*work)(void *owner) = fake.work;

    if (fake.state == LIFE_STOPPED)
        return false;
    if (work) {
        fake.work = NULL;
        work(fake.owner);
        notify(LIFE_HAS_WORKED);
    } else if (fake.stop) {
        fake.state = LIFE_STOPPED;
        notify(LIFE_HAS_STOPPED);
    } else if (fake.reset) {
        fake.reset = false;
        fake.state = LIFE_RUNNING;
        notify(LIFE_HAS_RESET);
    } else if (fake.state == LIFE_PAUSED && fake.resume) {
        fake.resume = fake.pause = false;
        fake.state = LIFE_RUNNING;
        notify(LIFE_HAS_RESUMED);
    } else if (fake.pause) {
        fake.pause = false;
        fake.state = fake.fails && fake.state == LIFE_RUNNING ? LIFE_RUNNING : LIFE_PAUSED;
        fake.fails = false;
        notify(fake.state == LIFE_PAUSED ? LIFE_HAS_PAUSED : LIFE_CANNOT_PAUSE);
    } else {
        return false;
    }
    return true;
}

/* The clients. */

static int connect_client(int listener)
{
    struct sockaddr_un address;
    socklen_t size = sizeof(address);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    demand(fd >= 0 && getsockname(listener, (struct sockaddr *)&address, &size) == 0);
    if (connect(fd, (const struct sockaddr *)&address, size) == 0)
        return fd;
    close(fd);
    return -1;
}

static int listen_anywhere(void)
{
    const struct sockaddr_un any = { .sun_family = AF_UNIX };
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    demand(fd >= 0 && bind(fd, (const struct sockaddr *)&any, sizeof(any.sun_family)) == 0);
    demand(listen(fd, 16) == 0);
    return fd;
}

static void send_bytes(int fd, const void *bytes, size_t size, unsigned count)
{
    static int file = -1;
    _Alignas(struct cmsghdr) char room[CMSG_SPACE(4 * sizeof(int))] = { 0 };
    struct iovec iov = { (void *)bytes, size };
    struct msghdr message = { .msg_iov = &iov, .msg_iovlen = 1 };

    if (file < 0)
        file = memfd_create("file", MFD_CLOEXEC);
    if (count > 0) {
        struct cmsghdr *head = (struct cmsghdr *)room;
        const int files[4] = { file, file, file, file };

        message.msg_control = room;
        message.msg_controllen = CMSG_SPACE(count * sizeof(int));
        *head = (struct cmsghdr){ .cmsg_level = SOL_SOCKET,
                                  .cmsg_type = SCM_RIGHTS,
                                  .cmsg_len = CMSG_LEN(count * sizeof(int)) };
        memcpy(CMSG_DATA(head), files, count * sizeof(int));
    }
    if (sendmsg(fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
        return; /* full, or closed */
}

static void close_client(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

static void turn(void)
{
    loop_turn(loop, 0);
}

/* One answer to a client that does nothing else. */
static unsigned ask(int fd, const char *request)
{
    char answer[32768];
    ssize_t got = -1;
    unsigned status;

    send_bytes(fd, request, strlen(request), 0);
    for (unsigned i = 0; i < 32 && got < 0; i++) {
        turn();
        got = recv(fd, answer, sizeof(answer) - 1, MSG_DONTWAIT);
        while (got < 0 && advance())
            ;
    }
    demand(got > 0);
    answer[got] = '\0';
    demand(sscanf(answer, "HTTP/1.1 %u", &status) == 1);
    return status;
}

static void act(struct input *in, int listener)
{
    uint32_t byte = take(in, 1), length;
    int *client = &clients[byte / ACTIONS % CLIENTS];
    char answer[4096];

    switch (byte % ACTIONS) {
    case CONNECT:
        if (*client < 0)
            *client = connect_client(listener);
        break;
    case CLOSE:
        close_client(client);
        break;
    case HALF_CLOSE:
        shutdown(*client, SHUT_WR);
        break;
    case SEND:
        length = take(in, 1);
        length = length < in->size ? length : (uint32_t)in->size;
        send_bytes(*client, in->data, length, 0);
        in->data += length;
        in->size -= length;
        break;
    case ASK:
        length = take(in, 1);
        send_bytes(*client, requests[length % ARRAY_SIZE(requests)],
                   strlen(requests[length % ARRAY_SIZE(requests)]),
                   length / ARRAY_SIZE(requests) % 5);
        break;
    case RECEIVE:
        if (recv(*client, answer, sizeof(answer), MSG_DONTWAIT) < 0)
            break;
        break;
    case ADVANCE:
        advance();
        break;
    case FAIL:
        fake.fails = true;
        break;
    case RESET:
        fake.reset = true;
        break;
    case STOP:
        fake.stop |= byte & 0x80; /* not every one: it ends all */
        break;
    case TURN:
        turn();
        break;
    }
}

/* All clients leave; the machine finishes what it does; a new client is served. */
static void finish(int listener, size_t requests_at_most)
{
    int fd;

    for (unsigned i = 0; i < CLIENTS; i++)
        close_client(&clients[i]);
    fake.fails = false;
    for (size_t i = 0; i < 64 + 4 * requests_at_most; i++) { /* a request takes some events */
        turn();
        advance();
    }
    demand(!advance());
    fd = connect_client(listener);
    demand(fd >= 0 && ask(fd, requests[0]) == 200 && ask(fd, requests[1]) == 200);
    if (fake.state != LIFE_STOPPED) {
        demand(ask(fd, requests[3]) == 204);
        demand(fake.state == LIFE_RUNNING);
        demand(ask(fd, requests[2]) == 204 && fake.state == LIFE_PAUSED);
        demand(ask(fd, requests[3]) == 204 && fake.state == LIFE_RUNNING);
    }
    close(fd);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = { data, size };
    static int without_json = -1;
    int listener;

    log_set_level(LOG_LEVEL_ERROR);
    if (without_json < 0)
        without_json = json_open() < 0;
    if (without_json)
        return 0;
    if (!loop)
        demand((loop = loop_create()) != NULL);
    fake = (struct fake){ .state = LIFE_RUNNING };
    for (unsigned i = 0; i < CLIENTS; i++)
        clients[i] = -1;
    listener = listen_anywhere();
    control = control_serve(dup(listener), &life, loop);
    demand(control);
    while (in.size > 0)
        act(&in, listener);
    finish(listener, size);
    control_close(control);
    close(listener);
    return 0;
}
