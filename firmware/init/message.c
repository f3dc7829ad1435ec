/* SPDX-License-Identifier: MIT */
#include "firmware/init/message.h"

#include "firmware/init/job.h"
#include "firmware/init/sys.h"
#include "firmware/init/text.h"

static void message_begin(struct text *line, const char *word)
{
    line->used = 0;
    text_add_number(line, sys_clock_ms());
    text_add(line, " ");
    text_add(line, word);
}

static void message_add_number(struct text *line, long number)
{
    text_add(line, " ");
    text_add_number(line, number);
}

static void message_write(const struct message_sink *sink, struct text *line)
{
    size_t written = 0;
    long n = 1;

    text_add(line, "\n");
    while (sink->port >= 0 && written < line->used && n > 0) {
        n = sys_write(sink->port, line->bytes + written, line->used - written);
        written += n > 0 ? (size_t)n : 0;
    }
}

void message_send(const struct message_sink *sink, const char *word)
{
    struct text line;

    message_begin(&line, word);
    message_write(sink, &line);
}

void message_send_number(const struct message_sink *sink, const char *word, long number)
{
    struct text line;

    message_begin(&line, word);
    message_add_number(&line, number);
    message_write(sink, &line);
}

void message_send_failed(const struct message_sink *sink, int status, int error)
{
    struct text line;

    message_begin(&line, "failed");
    message_add_number(&line, status);
    message_add_number(&line, -error);
    message_write(sink, &line);
}

/* A name may contain control characters; they would break the line. */
static void message_add_name(struct text *line, const char *name)
{
    for (; *name; name++)
        text_add_bytes(line, (unsigned char)*name < ' ' ? "?" : name, 1);
}

static void message_send_problem(const struct message_sink *sink, const char *word, int error,
                                 const char *what, const char *name)
{
    struct text line;

    message_begin(&line, word);
    message_add_number(&line, -error);
    text_add(&line, " ");
    text_add(&line, what);
    message_add_name(&line, name);
    message_write(sink, &line);
}

void message_send_note(const struct message_sink *sink, int error, const char *what,
                       const char *name)
{
    message_send_problem(sink, "note", error, what, name);
}

/* Each write to /dev/kmsg is one record. Level 2 (critical) is printed even with "quiet". */
void message_log(const struct message_sink *sink, int error, const char *what, const char *name)
{
    struct text line = { .used = 0 };

    text_add(&line, "<2>minivmm: ");
    text_add(&line, what);
    message_add_name(&line, name);
    if (error) {
        text_add(&line, ": error ");
        text_add_number(&line, -error);
    }
    text_add(&line, "\n");
    if (sink->log >= 0)
        sys_write(sink->log, line.bytes, line.used);
}

void message_send_error(const struct message_sink *sink, int error, const char *what,
                        const char *name)
{
    message_log(sink, error, what, name);
    message_send_problem(sink, "error", error, what, name);
}

void message_fail(const struct message_sink *sink, int error, const char *what, const char *name)
{
    message_send_error(sink, error, what, name);
    if (sink->port < 0)
        sys_power_off(); /* the supervisor got no message: do not wait for it */
    message_wait_for_end();
}

void message_wait_for_end(void)
{
    sys_sleep_ms(JOB_END_TIMEOUT_MS);
    while (1)
        sys_power_off();
}
