/* SPDX-License-Identifier: MIT */
#include "vmm/run/agent.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/core/base.h"

/* What follows each word: a number from min to max, then errno, then a text. */
static const struct {
    const char *word;
    unsigned min, max; /* both 0: no number */
    bool error, text;
} control_words[] = {
    [CONTROL_READY] = { .word = "ready" },
    [CONTROL_RUNNING] = { .word = "running" },
    [CONTROL_NOTE] = { .word = "note", .error = true, .text = true },
    [CONTROL_EXIT] = { .word = "exit", .min = 0, .max = 255 },
    [CONTROL_SIGNAL] = { .word = "signal", .min = 1, .max = 64 },
    [CONTROL_FAILED] = { .word = "failed", .min = 126, .max = 127, .error = true },
    [CONTROL_ERROR] = { .word = "error", .error = true, .text = true },
};

#define ERRNO_MAX 4095

/* A number and the space behind it, or the end of the line. */
static bool control_number(const char **at, uint64_t min, uint64_t max, uint64_t *ret)
{
    unsigned long long number;
    char *end;

    if (!isdigit((unsigned char)**at))
        return false;
    errno = 0;
    number = strtoull(*at, &end, 10);
    if (errno || (*end && *end != ' ') || number < min || number > max)
        return false;
    *ret = number;
    *at = end + (*end == ' ');
    return true;
}

static bool control_word(const char **at, enum control_kind *ret)
{
    size_t length = strcspn(*at, " ");

    for (unsigned kind = 0; kind < ARRAY_SIZE(control_words); kind++)
        if (strlen(control_words[kind].word) == length &&
            !memcmp(*at, control_words[kind].word, length)) {
            *at += length + ((*at)[length] == ' ');
            *ret = kind;
            return true;
        }
    return false;
}

bool control_parse(struct control_message *ret, const char *line)
{
    struct control_message message = { .text = "" };
    uint64_t number = 0, error = 0;
    enum control_kind kind;

    if (!control_number(&line, 0, UINT64_MAX, &message.ms) || !control_word(&line, &kind))
        return false;
    if (control_words[kind].max &&
        !control_number(&line, control_words[kind].min, control_words[kind].max, &number))
        return false;
    if (control_words[kind].error && !control_number(&line, 0, ERRNO_MAX, &error))
        return false;
    if (*line && !control_words[kind].text)
        return false;

    message.kind = kind;
    message.number = (int)number;
    message.error = (int)error;
    message.text = line;
    *ret = message;
    return true;
}

/* Only ASCII comes through: a terminal takes other bytes for orders, too. */
size_t control_take(struct control_line *line, const char *bytes, size_t count, const char **ret)
{
    *ret = NULL;
    for (size_t i = 0; i < count; i++) {
        if (bytes[i] == '\n') {
            line->text[line->used] = '\0';
            line->used = 0;
            *ret = line->text;
            return i + 1;
        }
        if (line->used < sizeof(line->text) - 1 && bytes[i] != '\r')
            line->text[line->used++] = isprint((unsigned char)bytes[i]) ? bytes[i] : '?';
    }
    return count;
}
