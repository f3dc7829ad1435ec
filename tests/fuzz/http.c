/* SPDX-License-Identifier: MIT */

/*
 * What a peer of the control socket sends: the input, in two pieces. Its first byte tells where it
 * is cut.
 */
#include "vmm/control/http.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tests/fuzz/fuzz.h"

static void check_within(const char *at, size_t length, const char *bytes, size_t size)
{
    demand(at >= bytes && at <= bytes + size && length <= (size_t)(bytes + size - at));
}

static void check_message(const struct http_message *m, const char *bytes, ssize_t length)
{
    demand(length > 0 && m->body_size <= HTTP_MAX_BODY && m->body_size < (size_t)length);
    demand(m->body + m->body_size == bytes + length);
    for (unsigned i = 0; i < 3; i++)
        check_within(m->words[i], strlen(m->words[i]) + 1, bytes, (size_t)length);
    demand(*m->words[0] && *m->words[1]);
}

/* All messages of the bytes, which are changed. Returns how many bytes they have. */
static size_t read_all(char *bytes, size_t size, ssize_t *ret_last)
{
    struct http_message m;
    size_t at = 0;

    while ((*ret_last = http_read(bytes + at, size - at, &m)) > 0) {
        demand((size_t)*ret_last <= size - at);
        check_message(&m, bytes + at, *ret_last);
        at += (size_t)*ret_last;
    }
    demand(*ret_last == 0 || *ret_last == -EBADMSG || *ret_last == -EMSGSIZE);
    demand(*ret_last || size - at < HTTP_MAX);
    return at;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    size_t cut, whole, parts;
    ssize_t last, first;
    char *bytes;

    if (size < 2)
        return 0;
    cut = data[0] % size;
    data++;
    size--;
    bytes = malloc(size); /* of this size, so that a sanitizer knows its end */
    demand(bytes);
    memcpy(bytes, data, size);
    whole = read_all(bytes, size, &last);

    memcpy(bytes, data, size);
    cut = cut < size ? cut : size;
    parts = read_all(bytes, cut, &first);
    if (first == 0) /* then the rest arrives */
        parts += read_all(bytes + parts, size - parts, &first);
    if (first == last)
        demand(parts == whole);
    free(bytes);
    return 0;
}
