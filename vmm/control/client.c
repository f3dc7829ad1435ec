/* SPDX-License-Identifier: MIT */
#include "vmm/control/client.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "vmm/control/http.h"
#include "vmm/control/json.h"
#include "vmm/core/base.h"
#include "vmm/core/log.h"

#define MAX_FDS 64

static int client_send(int socket, char *bytes, size_t size, const int *fds, unsigned count)
{
    _Alignas(struct cmsghdr) char control[CMSG_SPACE(MAX_FDS * sizeof(int))] = { 0 };
    struct iovec iov = { bytes, size };
    struct msghdr message = { .msg_iov = &iov, .msg_iovlen = 1 };
    struct cmsghdr *head;

    if (count > 0) {
        message.msg_control = control;
        message.msg_controllen = CMSG_SPACE(count * sizeof(int));
        head = CMSG_FIRSTHDR(&message);
        *head = (struct cmsghdr){ .cmsg_level = SOL_SOCKET,
                                  .cmsg_type = SCM_RIGHTS,
                                  .cmsg_len = CMSG_LEN(count * sizeof(int)) };
        memcpy(CMSG_DATA(head), fds, count * sizeof(int));
    }
    while (sendmsg(socket, &message, MSG_NOSIGNAL) < 0)
        if (errno != EINTR)
            return log_error(errno, "ask the machine");
    return 0;
}

/* Waits for bytes of the answer. */
static ssize_t client_read(const struct control_client *client, char *bytes, size_t size)
{
    struct pollfd fds[] = { { .fd = client->socket, .events = POLLIN },
                            { .fd = client->cancel, .events = POLLIN } };
    ssize_t got;

    if (poll(fds, ARRAY_SIZE(fds), -1) < 0)
        return errno == EINTR ? client_read(client, bytes, size) : -errno;
    if (fds[1].revents)
        return -EINTR;
    got = recv(client->socket, bytes, size, 0);
    return got < 0 ? -errno : got;
}

/* Receives one answer: its status, or -errno. */
static int client_receive(const struct control_client *client, char answer[CONTROL_ANSWER_SIZE])
{
    struct http_message message = { .body_size = 0 };
    char bytes[HTTP_MAX];
    size_t used = 0;
    ssize_t got, size;

    while ((size = http_read(bytes, used, &message)) == 0 && used < sizeof(bytes)) {
        got = client_read(client, bytes + used, sizeof(bytes) - used);
        if (got == -EINTR)
            return -EINTR;
        if (got == 0 || got == -ECONNRESET)
            return log_refuse(EPIPE, "the machine ended before it answered");
        if (got < 0)
            return log_error((int)-got, "ask the machine");
        used += (size_t)got;
    }
    if (size <= 0)
        return log_refuse(EBADMSG, "the machine's answer cannot be understood");
    memcpy(answer, message.body, message.body_size);
    answer[message.body_size] = '\0';
    return atoi(message.words[1]);
}

static int client_refused(const char *answer)
{
    char why[128];
    struct json *json = json_read(answer, strlen(answer), why, sizeof(why));
    const char *fault = json ? json_text(json_member(json, "fault_message")) : NULL;

    log_refuse(EINVAL, "the machine refused: %s", fault ? fault : answer);
    json_free(json);
    return -EINVAL;
}

int control_ask(const struct control_client *client, const char *method, const char *target,
                const char *body, const int *fds, unsigned count, char answer[CONTROL_ANSWER_SIZE])
{
    char request[1024];
    int size = snprintf(request, sizeof(request),
                        "%s %s HTTP/1.1\r\nHost: localhost\r\nContent-Length: %zu\r\n\r\n%s",
                        method, target, body ? strlen(body) : 0, body ? body : "");
    int result = client_send(client->socket, request, (size_t)size, fds, count);

    if (result)
        return result;
    result = client_receive(client, answer);
    return result < 0 ? result : result / 100 == 2 ? 0 : client_refused(answer);
}
