/* SPDX-License-Identifier: MIT */
#include "vmm/control/http.h"

#include <errno.h>
#include <string.h>
#include <strings.h>

#include "vmm/core/base.h"

struct line {
    char *at;
    size_t length; /* without its CR and LF */
};

/* Takes the next line of the head; false: there is no whole one. A bare LF ends a line, too. */
static bool http_next_line(char **at, const char *end, struct line *ret)
{
    char *feed = memchr(*at, '\n', (size_t)(end - *at));

    if (!feed)
        return false;
    *ret = (struct line){ *at, (size_t)(feed - *at) };
    if (ret->length > 0 && feed[-1] == '\r')
        ret->length--;
    *at = feed + 1;
    return true;
}

/* Takes the value if the line is the field `name`. */
static bool http_is_field(const struct line *line, const char *name, struct line *ret_value)
{
    size_t length = strlen(name), skip = length + 1;

    if (line->length < skip || strncasecmp(line->at, name, length) != 0 || line->at[length] != ':')
        return false;
    while (skip < line->length && (line->at[skip] == ' ' || line->at[skip] == '\t'))
        skip++;
    *ret_value = (struct line){ line->at + skip, line->length - skip };
    return true;
}

static bool http_read_length(const struct line *value, size_t *ret)
{
    *ret = 0;
    if (value->length == 0 || value->length > 9)
        return false;
    for (size_t i = 0; i < value->length; i++) {
        if (value->at[i] < '0' || value->at[i] > '9')
            return false;
        *ret = *ret * 10 + (size_t)(value->at[i] - '0');
    }
    return true;
}

static bool http_read_field(const struct line *line, struct http_message *ret)
{
    struct line value;

    if (http_is_field(line, "Content-Length", &value))
        return http_read_length(&value, &ret->body_size);
    if (http_is_field(line, "Connection", &value))
        ret->close = value.length == 5 && strncasecmp(value.at, "close", 5) == 0;
    return !http_is_field(line, "Transfer-Encoding", &value) && memchr(line->at, ':', line->length);
}

/* Two words, and whatever follows. */
static bool http_cut_words(const struct line *line, struct http_message *ret)
{
    char *at = line->at, *end = line->at + line->length;

    *end = '\0'; /* its CR or LF */
    for (unsigned i = 0; i < 2; i++) {
        char *space = memchr(at, ' ', (size_t)(end - at));

        if (space == at || at == end)
            return false;
        ret->words[i] = at;
        at = space ? space + 1 : end;
        if (space)
            *space = '\0';
    }
    ret->words[2] = at;
    return strlen(ret->words[0]) + strlen(ret->words[1]) + strlen(at) <= line->length;
}

ssize_t http_read(char *bytes, size_t size, struct http_message *ret)
{
    const char *end = bytes + (size < HTTP_MAX_HEAD ? size : HTTP_MAX_HEAD);
    struct line first, line;
    char *at = bytes;

    *ret = (struct http_message){ .body_size = 0 };
    if (!http_next_line(&at, end, &first))
        return size < HTTP_MAX_HEAD ? 0 : -EMSGSIZE;
    for (;;) {
        if (!http_next_line(&at, end, &line))
            return size < HTTP_MAX_HEAD ? 0 : -EMSGSIZE;
        if (line.length == 0)
            break;
        if (!http_read_field(&line, ret))
            return -EBADMSG;
    }
    if (ret->body_size > HTTP_MAX_BODY)
        return -EMSGSIZE;
    if (ret->body_size > size - (size_t)(at - bytes))
        return 0;
    ret->body = at;
    return http_cut_words(&first, ret) ? at - bytes + (ssize_t)ret->body_size : -EBADMSG;
}
