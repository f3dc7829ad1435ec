/* SPDX-License-Identifier: MIT */
#include "vmm/run/agent.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/core/base.h"

/* The arguments of each word: a number from min to max, an errno, a text. */
static const struct {
    const char *word;
    unsigned min, max; /* both 0: no number */
    bool error, text;
} agent_words[] = {
    [AGENT_READY] = { .word = "ready" },
    [AGENT_WARM] = { .word = "warm" },
    [AGENT_FORKED] = { .word = "forked" },
    [AGENT_CLOCK] = { .word = "clock" },
    [AGENT_RUNNING] = { .word = "running" },
    [AGENT_NOTE] = { .word = "note", .error = true, .text = true },
    [AGENT_EXIT] = { .word = "exit", .min = 0, .max = 255 },
    [AGENT_SIGNAL] = { .word = "signal", .min = 1, .max = 64 },
    [AGENT_FAILED] = { .word = "failed", .min = 126, .max = 127, .error = true },
    [AGENT_ERROR] = { .word = "error", .error = true, .text = true },
};

#define ERRNO_MAX 4095

/* Parses a number followed by a space or the end of the line. */
static bool agent_parse_number(const char **at, uint64_t min, uint64_t max, uint64_t *ret)
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

static bool agent_parse_word(const char **at, enum agent_message_kind *ret)
{
    size_t length = strcspn(*at, " ");

    for (unsigned kind = 0; kind < ARRAY_SIZE(agent_words); kind++)
        if (strlen(agent_words[kind].word) == length &&
            !memcmp(*at, agent_words[kind].word, length)) {
            *at += length + ((*at)[length] == ' ');
            *ret = kind;
            return true;
        }
    return false;
}

bool agent_parse(struct agent_message *ret, const char *line)
{
    struct agent_message message = { .text = "" };
    uint64_t number = 0, error = 0;
    enum agent_message_kind kind;

    if (!agent_parse_number(&line, 0, UINT64_MAX, &message.ms) || !agent_parse_word(&line, &kind))
        return false;
    if (agent_words[kind].max &&
        !agent_parse_number(&line, agent_words[kind].min, agent_words[kind].max, &number))
        return false;
    if (agent_words[kind].error && !agent_parse_number(&line, 0, ERRNO_MAX, &error))
        return false;
    if (*line && !agent_words[kind].text)
        return false;

    message.kind = kind;
    message.number = (int)number;
    message.error = (int)error;
    message.text = line;
    *ret = message;
    return true;
}

/* Lines may be printed: '?' replaces all but printable ASCII, as terminals know other controls. */
size_t agent_take_line(struct agent_line *line, const char *bytes, size_t count, const char **ret)
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
