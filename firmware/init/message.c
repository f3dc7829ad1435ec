/* SPDX-License-Identifier: MIT */
#include "firmware/init/message.h"

#include "firmware/init/job.h"
#include "firmware/init/sys.h"
#include "firmware/init/text.h"

static void voice_begin(struct text *line, const char *word)
{
    line->used = 0;
    text_add_number(line, sys_clock_ms());
    text_add(line, " ");
    text_add(line, word);
}

static void voice_add_number(struct text *line, long number)
{
    text_add(line, " ");
    text_add_number(line, number);
}

static void voice_end(const struct voice *voice, struct text *line)
{
    size_t said = 0;
    long n = 1;

    text_add(line, "\n");
    while (voice->control >= 0 && said < line->used && n > 0) {
        n = sys_write(voice->control, line->bytes + said, line->used - said);
        said += n > 0 ? (size_t)n : 0;
    }
}

void voice_say(const struct voice *voice, const char *word)
{
    struct text line;

    voice_begin(&line, word);
    voice_end(voice, &line);
}

void voice_say_number(const struct voice *voice, const char *word, long number)
{
    struct text line;

    voice_begin(&line, word);
    voice_add_number(&line, number);
    voice_end(voice, &line);
}

void voice_say_failed(const struct voice *voice, int status, int error)
{
    struct text line;

    voice_begin(&line, "failed");
    voice_add_number(&line, status);
    voice_add_number(&line, -error);
    voice_end(voice, &line);
}

/* Names may hold anything but a NUL; a line must not. */
static void voice_add_plain(struct text *line, const char *name)
{
    for (; *name; name++)
        text_add_bytes(line, (unsigned char)*name < ' ' ? "?" : name, 1);
}

static void voice_say_problem(const struct voice *voice, const char *word, int error,
                              const char *what, const char *name)
{
    struct text line;

    voice_begin(&line, word);
    voice_add_number(&line, -error);
    text_add(&line, " ");
    text_add(&line, what);
    voice_add_plain(&line, name);
    voice_end(voice, &line);
}

void voice_note(const struct voice *voice, int error, const char *what, const char *name)
{
    voice_say_problem(voice, "note", error, what, name);
}

/* One record for each write; level 2, so that a quiet kernel prints it. */
void voice_log(const struct voice *voice, int error, const char *what, const char *name)
{
    struct text line = { .used = 0 };

    text_add(&line, "<2>minivmm: ");
    text_add(&line, what);
    voice_add_plain(&line, name);
    if (error) {
        text_add(&line, ": error ");
        text_add_number(&line, -error);
    }
    text_add(&line, "\n");
    if (voice->log >= 0)
        sys_write(voice->log, line.bytes, line.used);
}

void voice_fail(const struct voice *voice, int error, const char *what, const char *name)
{
    voice_log(voice, error, what, name);
    voice_say_problem(voice, "error", error, what, name);
    if (voice->control < 0)
        sys_power_off(); /* nobody has heard it */
    voice_wait_for_end();
}

void voice_wait_for_end(void)
{
    sys_sleep_ms(ORDERS_PATIENCE_MS);
    while (1)
        sys_power_off();
}
