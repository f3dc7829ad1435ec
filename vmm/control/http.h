/* SPDX-License-Identifier: MIT */
#ifndef VMM_CONTROL_HTTP_H
#define VMM_CONTROL_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/*
 * HTTP/1.1 (RFC 9112) as far as the control socket needs it, for both of its ends: a first line,
 * header fields of which Content-Length counts, a body of that length. The peer is not trusted.
 */
#define HTTP_MAX_HEAD 8192  /* bytes of the first line and the fields */
#define HTTP_MAX_BODY 51200 /* as of Firecracker */
#define HTTP_MAX      (HTTP_MAX_HEAD + HTTP_MAX_BODY)

struct http_message {
    char *words[3];   /* of the first line: method, target, version; or version, status, reason */
    const char *body; /* not terminated */
    size_t body_size;
    bool close; /* Connection: close */
};

/*
 * Reads the message at the start of `bytes`. Returns its length, 0 if it is not complete yet,
 * -EBADMSG if it is no message, -EMSGSIZE if it is too long. *ret then points into `bytes`, of
 * which the first line is cut into words.
 */
ssize_t http_read(char *bytes, size_t size, struct http_message *ret);

#endif
