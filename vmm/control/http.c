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

static bool http_is_space(char c)
{
    return c == ' ' || c == '\t';
}

/* RFC 9112, 5: no white space before the colon, nor at the begin: the line does not go on there. */
static bool http_cut_field(const struct line *line, struct line *ret_name, struct line *ret_value)
{
    const char *colon = memchr(line->at, ':', line->length);
    size_t length = colon ? (size_t)(colon - line->at) : 0;
    struct line value = { line->at + length + 1, line->length - length - 1 };

    for (size_t i = 0; i < length; i++)
        if (line->at[i] <= ' ' || line->at[i] >= 0x7f)
            return false;
    for (; value.length > 0 && http_is_space(value.at[0]); value.length--)
        value.at++;
    while (value.length > 0 && http_is_space(value.at[value.length - 1]))
        value.length--;
    *ret_name = (struct line){ line->at, length };
    *ret_value = value;
    return length > 0;
}

static bool http_is(const struct line *line, const char *text)
{
    return line->length == strlen(text) && strncasecmp(line->at, text, line->length) == 0;
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

static bool http_read_field(const struct line *line, struct http_message *ret, bool *has_length)
{
    struct line name, value;
    size_t length;

    if (!http_cut_field(line, &name, &value) || http_is(&name, "Transfer-Encoding"))
        return false;
    if (http_is(&name, "Connection"))
        ret->close = http_is(&value, "close");
    if (!http_is(&name, "Content-Length"))
        return true;
    if (!http_read_length(&value, &length) || (*has_length && length != ret->body_size))
        return false;
    *has_length = true;
    ret->body_size = length;
    return true;
}

static bool http_is_version(const char *word)
{
    return !strcmp(word, "HTTP/1.1") || !strcmp(word, "HTTP/1.0");
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
    return http_is_version(ret->words[0]) || http_is_version(ret->words[2]);
}

ssize_t http_read(char *bytes, size_t size, struct http_message *ret)
{
    const char *end = bytes + (size < HTTP_MAX_HEAD ? size : HTTP_MAX_HEAD);
    struct line first, line;
    bool has_length = false;
    char *at = bytes;

    *ret = (struct http_message){ .body_size = 0 };
    if (!http_next_line(&at, end, &first))
        return size < HTTP_MAX_HEAD ? 0 : -EMSGSIZE;
    for (;;) {
        if (!http_next_line(&at, end, &line))
            return size < HTTP_MAX_HEAD ? 0 : -EMSGSIZE;
        if (line.length == 0)
            break;
        if (!http_read_field(&line, ret, &has_length))
            return -EBADMSG;
    }
    if (memchr(bytes, '\0', (size_t)(at - bytes)))
        return -EBADMSG;
    if (ret->body_size > HTTP_MAX_BODY)
        return -EMSGSIZE;
    if (ret->body_size > size - (size_t)(at - bytes))
        return 0;
    ret->body = at;
    return http_cut_words(&first, ret) ? at - bytes + (ssize_t)ret->body_size : -EBADMSG;
}
