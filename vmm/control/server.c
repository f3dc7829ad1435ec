/* SPDX-License-Identifier: MIT */
#include "vmm/control/server.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "settings.h"
#include "vmm/config/config.h"
#include "vmm/control/http.h"
#include "vmm/control/json.h"
#include "vmm/core/alarm.h"
#include "vmm/core/base.h"
#include "vmm/core/log.h"
#include "vmm/machine/machine.h"
#include "vmm/machine/snapshot.h"

#define CLIENTS     16 /* at a time; others wait in the socket's backlog */
#define DESCRIPTORS (SNAPSHOT_FD_DISKS + HARDWARE_MAX_VIRTIO) /* of a request */
#define PAUSE_MS    30000
#define ACCEPT_MS   100   /* until the next try, without a descriptor for a client */
#define ANSWER_SIZE 16384 /* bytes */
#define FAULT_SIZE  256

struct client {
    struct control *control;
    struct watch watch; /* fd -1: free */
    char *bytes;        /* HTTP_MAX */
    size_t used;
    int fds[DESCRIPTORS]; /* received, not used yet */
    unsigned fd_count;
    bool asking;  /* its request is being carried out */
    bool leaving; /* its connection ends with the next answer */
};

struct control {
    struct lifecycle *life;
    struct loop *loop;
    struct watch listener;
    struct watch again; /* a timer: listen again */
    uid_t user;         /* who may ask, besides root */
    struct client clients[CLIENTS];

    /* The request that is being carried out. */
    enum control_request {
        REQUEST_NONE,
        REQUEST_PAUSE,
        REQUEST_RESUME,
        REQUEST_SNAPSHOT,
        REQUEST_REWIND,
        REQUEST_DONE, /* one of these two is, and the machine is to run on or to end */
    } request;
    void (*work)(void *control); /* of REQUEST_SNAPSHOT and REQUEST_REWIND, on a thread */
    bool was_paused;             /* before it */
    bool stop;                   /* then the machine ends */
    bool lost;                   /* the machine cannot go on */
    struct snapshot_files files;
    char why[FAULT_SIZE]; /* why it failed, or "" */
};

static void client_close_fds(struct client *client)
{
    while (client->fd_count > 0)
        close(client->fds[--client->fd_count]);
}

static unsigned control_count(const struct control *control)
{
    unsigned count = 0;

    for (unsigned i = 0; i < CLIENTS; i++)
        count += control->clients[i].watch.fd >= 0;
    return count;
}

/* A client fewer: another one may connect. */
static void control_listen_again(struct control *control)
{
    alarm_set(&control->again, 0);
    control->listener.events = POLLIN;
}

static void client_close(struct client *client)
{
    loop_remove(client->control->loop, &client->watch);
    close(client->watch.fd);
    client->watch.fd = -1;
    client_close_fds(client);
    free(client->bytes);
    client->bytes = NULL;
    client->asking = false;
    control_listen_again(client->control);
}

/* A client that does not read its answers loses its connection. */
static void client_answer(struct client *client, unsigned status, const char *body)
{
    char bytes[ANSWER_SIZE + 256];
    const char *reason = status == 200 ? "OK" : status == 204 ? "No Content" : "Bad Request";
    int size =
        snprintf(bytes, sizeof(bytes), "HTTP/1.1 %u %s\r\nServer: minivmm\r\nConnection: %s\r\n",
                 status, reason, client->leaving ? "close" : "keep-alive");

    if (body)
        size += snprintf(bytes + size, sizeof(bytes) - (size_t)size,
                         "Content-Type: application/json\r\nContent-Length: %zu\r\n\r\n%s",
                         strlen(body), body);
    else
        size += snprintf(bytes + size, sizeof(bytes) - (size_t)size, "\r\n");
    if (send(client->watch.fd, bytes, (size_t)size, MSG_DONTWAIT | MSG_NOSIGNAL) != size)
        shutdown(client->watch.fd, SHUT_RDWR);
}

static void client_fault(struct client *client, const char *fault)
{
    char quoted[6 * FAULT_SIZE + 16], body[sizeof(quoted) + 32];

    snprintf(body, sizeof(body), "{\"fault_message\":%s}",
             json_quote(fault, quoted, sizeof(quoted)));
    client_answer(client, 400, body);
}

/* The requests. Each answers, or has begun and sets control->request. */

static void control_get(struct client *client)
{
    static const char *const states[] = {
        [LIFE_BUILT] = "Not started", [LIFE_RUNNING] = "Running",     [LIFE_PAUSED] = "Paused",
        [LIFE_RESETTING] = "Running", [LIFE_STOPPED] = "Not started",
    };
    char body[256];

    snprintf(body, sizeof(body),
             "{\"id\":\"%d\",\"state\":\"%s\",\"vmm_version\":\"%s\",\"app_name\":\"minivmm\"}",
             getpid(), states[lifecycle_state(client->control->life)], MINIVMM_VERSION);
    client_answer(client, 200, body);
}

static void control_get_config(struct client *client)
{
    const struct config *config = client->control->life->machine->config;
    char body[ANSWER_SIZE], path[4096];
    size_t used;

    used = (size_t)snprintf(
        body, sizeof(body),
        "{\"machine-config\":{\"vcpu_count\":%u,\"mem_size_mib\":%llu},\"drives\":[", config->cpus,
        (unsigned long long)(config->memory / MIB));
    for (const struct disk_config *disk = config->disks; disk; disk = disk->next) {
        used += (size_t)snprintf(
            body + used, sizeof(body) - used, "%s{\"path_on_host\":%s,\"is_read_only\":%s}",
            disk == config->disks ? "" : ",", json_quote(disk->image.path, path, sizeof(path)),
            disk->image.read_only ? "true" : "false");
        if (used >= sizeof(body) - 3) {
            client_fault(client, "the answer is too long");
            return;
        }
    }
    strcpy(body + used, "]}");
    client_answer(client, 200, body);
}

static void control_patch_vm(struct client *client, const struct json *body)
{
    struct control *control = client->control;
    const char *state = json_text(json_member(body, "state"));

    if (state && !strcmp(state, "Paused")) {
        control->request = REQUEST_PAUSE;
        lifecycle_pause(control->life, PAUSE_MS);
    } else if (!state || strcmp(state, "Resumed") != 0) {
        client_fault(client, "state: expected Paused or Resumed");
    } else if (lifecycle_state(control->life) != LIFE_PAUSED) {
        client_answer(client, 204, NULL); /* no event would follow */
    } else {
        control->request = REQUEST_RESUME;
        lifecycle_resume(control->life);
    }
}

/* On the worker's thread. */
static void control_save(void *owner)
{
    struct control *control = owner;

    snapshot_save(control->life->machine, &control->files, control->why, sizeof(control->why));
}

static void control_rewind_machine(void *owner)
{
    struct control *control = owner;
    char *why = control->why;
    int error = snapshot_rewind(control->life->machine, why, FAULT_SIZE);
    size_t used = strlen(why);

    control->lost = error && error != -ECANCELED;
    if (control->lost)
        snprintf(why + used, FAULT_SIZE - used, "; the machine has ended: restore another");
}

/* Pauses the machine and has a thread do the work. */
static void control_begin_work(struct control *control, enum control_request request,
                               void (*work)(void *control))
{
    control->request = request;
    control->work = work;
    control->was_paused = lifecycle_state(control->life) == LIFE_PAUSED;
    lifecycle_pause(control->life, PAUSE_MS);
}

static unsigned control_count_writable(const struct control *control)
{
    const struct disk_config *disk = control->life->machine->config->disks;
    unsigned count = 0;

    for (; disk; disk = disk->next)
        count += !disk->image.read_only;
    return count;
}

static void control_create_snapshot(struct client *client, const struct json *body)
{
    struct control *control = client->control;
    const struct json *type = json_member(body, "snapshot_type"), *stop = json_member(body, "stop");

    if (type && (!json_text(type) || strcmp(json_text(type), "Full") != 0)) {
        client_fault(client, "snapshot_type: expected Full");
        return;
    }
    if (stop && !json_is_flag(stop)) {
        client_fault(client, "stop: expected true or false");
        return;
    }
    if (client->fd_count != SNAPSHOT_FD_DISKS + control_count_writable(control)) {
        client_fault(client, "expected the descriptors of files for state, memory, and each disk "
                             "that is not read-only");
        return;
    }
    control->stop = json_flag(stop);
    control->files.count = client->fd_count;
    memcpy(control->files.fds, client->fds, sizeof(client->fds));
    client->fd_count = 0;
    control_begin_work(control, REQUEST_SNAPSHOT, control_save);
}

static void control_rewind(struct client *client, const struct json *body)
{
    control_begin_work(client->control, REQUEST_REWIND, control_rewind_machine);
}

static const struct control_route {
    const char *method, *target;
    void (*get)(struct client *client);
    void (*put)(struct client *client, const struct json *body); /* changes the machine */
    const char *keys[4];                                         /* that the body may have */
} control_routes[] = {
    { "GET", "/", .get = control_get },
    { "GET", "/vm/config", .get = control_get_config },
    { "PATCH", "/vm", .put = control_patch_vm, .keys = { "state" } },
    { "PUT", "/snapshot/create", .put = control_create_snapshot,
      .keys = { "snapshot_type", "stop" } },
    { "PUT", "/snapshot/rewind", .put = control_rewind },
};

static const struct control_route *control_find_route(const struct http_message *message)
{
    for (unsigned i = 0; i < ARRAY_SIZE(control_routes); i++)
        if (!strcmp(control_routes[i].method, message->words[0]) &&
            !strcmp(control_routes[i].target, message->words[1]))
            return &control_routes[i];
    return NULL;
}

static void client_change(struct client *client, const struct control_route *route,
                          const struct http_message *message)
{
    struct control *control = client->control;
    char why[FAULT_SIZE], fault[FAULT_SIZE + 32];
    const char *key;
    struct json *body;

    if (control->request != REQUEST_NONE) {
        client_fault(client, "another request is being carried out");
        return;
    }
    body = json_read(message->body, message->body_size, why, sizeof(why));
    if (!body) {
        snprintf(fault, sizeof(fault), "the body is not JSON: %s", why);
        client_fault(client, fault);
    } else if (!json_has_only(body, route->keys, &key)) {
        snprintf(fault, sizeof(fault), "unknown field `%.64s`", key ? key : "");
        client_fault(client, key ? fault : "the body is not an object");
    } else {
        *control->why = '\0';
        control->stop = control->lost = false;
        route->put(client, body);
        client->asking = control->request != REQUEST_NONE;
    }
    json_free(body);
}

static void client_handle(struct client *client, const struct http_message *message)
{
    const struct control_route *route = control_find_route(message);

    if (!route)
        client_fault(client, "Invalid request method and/or path");
    else if (route->get)
        route->get(client);
    else
        client_change(client, route, message);
    client_close_fds(client);
}

/* Handles what has been received, until a request has to be waited for. */
static void client_advance(struct client *client)
{
    struct http_message message;
    ssize_t size;

    while (!client->asking && !client->leaving && client->used > 0) {
        size = http_read(client->bytes, client->used, &message);
        if (size == 0)
            break;
        client->leaving = size < 0 || message.close;
        if (size < 0) {
            client_fault(client, size == -EMSGSIZE ? "the request is too long"
                                                   : "this is not an HTTP/1.1 request");
            break;
        }
        client_handle(client, &message);
        client->used -= (size_t)size;
        memmove(client->bytes, client->bytes + size, client->used);
    }
    client->watch.events = client->asking ? 0 : POLLIN;
    if (client->leaving && !client->asking)
        client_close(client);
}

/* Takes the descriptors that came with a message. */
static void client_take_fds(struct client *client, struct msghdr *message)
{
    struct cmsghdr *head = CMSG_FIRSTHDR(message);
    size_t count;

    for (; head; head = CMSG_NXTHDR(message, head)) {
        const int *fds = (const int *)(const void *)CMSG_DATA(head);

        if (head->cmsg_level != SOL_SOCKET || head->cmsg_type != SCM_RIGHTS)
            continue;
        count = (head->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < count; i++) {
            if (client->fd_count == DESCRIPTORS)
                close(fds[i]);
            else
                client->fds[client->fd_count++] = fds[i];
        }
    }
}

static void client_ready(struct watch *watch, short revents)
{
    struct client *client = container_of(watch, struct client, watch);
    struct iovec iov = { client->bytes + client->used, HTTP_MAX - client->used };
    _Alignas(struct cmsghdr) char control[CMSG_SPACE(DESCRIPTORS * sizeof(int))];
    struct msghdr message = {
        .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control)
    };
    ssize_t got;

    if (client->asking && !(revents & (POLLHUP | POLLERR)))
        return;
    got = client->asking ? 0 : recvmsg(watch->fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (got <= 0) {
        client_close(client);
        return;
    }
    client_take_fds(client, &message);
    client->used += (size_t)got;
    client_advance(client);
}

/* The user's own processes, and root's. */
static bool control_may_ask(const struct control *control, int fd)
{
    struct ucred peer;
    socklen_t size = sizeof(peer);

    return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 &&
           (peer.uid == control->user || peer.uid == 0);
}

static void control_accept(struct watch *watch, short revents)
{
    struct control *control = container_of(watch, struct control, listener);
    int fd = accept4(watch->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    struct client *client = control->clients;

    if (fd < 0 && errno != EAGAIN && errno != EINTR) { /* it stays in the backlog */
        watch->events = 0;
        alarm_set(&control->again, ACCEPT_MS);
    }
    if (fd < 0)
        return;
    while (client->watch.fd >= 0)
        client++;
    client->bytes = control_may_ask(control, fd) ? malloc(HTTP_MAX) : NULL;
    if (!client->bytes) {
        close(fd);
        return;
    }
    client->control = control;
    client->used = 0;
    client->leaving = false;
    client->watch = (struct watch){ .fd = fd, .events = POLLIN, .ready = client_ready };
    loop_add(control->loop, &client->watch);
    if (control_count(control) == CLIENTS)
        watch->events = 0;
}

static void control_waited(struct watch *watch, short revents)
{
    if (alarm_expired(watch))
        control_listen_again(container_of(watch, struct control, again));
}

struct control *control_serve(int listener, struct lifecycle *life, struct loop *loop)
{
    struct control *control = calloc(1, sizeof(*control));

    if (!control) {
        close(listener);
        log_error(ENOMEM, "control socket");
        return NULL;
    }
    control->life = life;
    control->loop = loop;
    control->user = geteuid();
    for (unsigned i = 0; i < CLIENTS; i++)
        control->clients[i].watch.fd = -1;
    control->listener = (struct watch){ .fd = listener, .events = POLLIN, .ready = control_accept };
    loop_add(loop, &control->listener);
    if (alarm_open(&control->again, loop, control_waited) < 0) {
        control_close(control);
        return NULL;
    }
    return control;
}

/* The request is done. Its client may have gone away. */
static void control_finish(struct control *control)
{
    control->request = REQUEST_NONE;
    for (unsigned i = 0; i < CLIENTS; i++) {
        struct client *client = &control->clients[i];

        if (!client->asking)
            continue;
        client->asking = false;
        if (*control->why)
            client_fault(client, control->why);
        else
            client_answer(client, 204, NULL);
        client_advance(client);
        return;
    }
}

/* Whether somebody waits for the answer, and thus has the files. */
static bool control_is_awaited(const struct control *control)
{
    for (unsigned i = 0; i < CLIENTS; i++)
        if (control->clients[i].watch.fd >= 0 && control->clients[i].asking)
            return true;
    return false;
}

/*
 * The work is done, or not: `why` says so. A machine whose client has gone away, perhaps with its
 * files, must not end. The client is answered when the machine is what the request says: only then
 * does the next request begin.
 */
static void control_worked(struct control *control)
{
    bool stop = control->stop && !*control->why && control_is_awaited(control);

    snapshot_files_close(&control->files);
    if (!stop && !control->lost && control->was_paused) {
        control_finish(control);
        return;
    }
    control->request = REQUEST_DONE;
    if (control->lost) {
        log_refuse(EIO, "rewind the machine: %s", control->why);
        lifecycle_fail(control->life);
    } else if (stop) {
        lifecycle_leave(control->life);
    } else {
        lifecycle_resume(control->life);
    }
}

static void control_start_work(struct control *control)
{
    if (lifecycle_work(control->life, control->work, control))
        return;
    snprintf(control->why, sizeof(control->why), "the host has no thread for it");
    control_worked(control);
}

static bool control_is_working(const struct control *control)
{
    return control->request == REQUEST_SNAPSHOT || control->request == REQUEST_REWIND;
}

/* Whether the request goes on until another event. A pause outlives a reset. */
static bool control_awaits_more(const struct control *control, enum life_event event)
{
    return event == LIFE_HAS_RESET &&
           (control->request == REQUEST_PAUSE || control_is_working(control));
}

void control_on_event(struct control *control, enum life_event event, const char *name)
{
    if (!control || control->request == REQUEST_NONE || control_awaits_more(control, event))
        return;
    if (control_is_working(control) && event == LIFE_HAS_WORKED) {
        control_worked(control);
        return;
    }
    if (control_is_working(control) && event == LIFE_HAS_PAUSED) {
        control_start_work(control);
        return;
    }
    if (event == LIFE_CANNOT_PAUSE)
        snprintf(control->why, sizeof(control->why), "%s does not come to rest", name);
    else if (event == LIFE_HAS_STOPPED && control->request != REQUEST_DONE)
        snprintf(control->why, sizeof(control->why), "the machine has stopped meanwhile");
    snapshot_files_close(&control->files);
    control_finish(control);
}

bool control_runs_on(const struct control *control)
{
    return control && !control->was_paused && !control->stop && !control->lost &&
           (control_is_working(control) || control->request == REQUEST_DONE);
}

void control_close(struct control *control)
{
    if (!control)
        return;
    for (unsigned i = 0; i < CLIENTS; i++)
        if (control->clients[i].watch.fd >= 0)
            client_close(&control->clients[i]);
    alarm_close(&control->again, control->loop);
    loop_remove(control->loop, &control->listener);
    close(control->listener.fd);
    snapshot_files_close(&control->files);
    free(control);
}
