/* SPDX-License-Identifier: MIT */
#include "vmm/run/report.h"

#include <inttypes.h>
#include <string.h>

#include "vmm/core/base.h"

/* Invalid UTF-8 can only come from file names; it is written unchanged. */
static void report_string(FILE *file, const char *text)
{
    if (!text) {
        fputs("null", file);
        return;
    }
    fputc('"', file);
    for (; *text; text++) {
        if (*text == '"' || *text == '\\')
            fprintf(file, "\\%c", *text);
        else if ((unsigned char)*text < ' ')
            fprintf(file, "\\u%04x", (unsigned)*text);
        else
            fputc(*text, file);
    }
    fputc('"', file);
}

static void report_text(FILE *file, const char *name, const char *text)
{
    fprintf(file, ", \"%s\": ", name);
    report_string(file, text);
}

static void report_number(FILE *file, const char *name, int64_t number)
{
    fprintf(file, ", \"%s\": ", name);
    if (number >= 0)
        fprintf(file, "%" PRId64, number);
    else
        fputs("null", file);
}

static void report_object(FILE *file, const struct report *report)
{
    const struct outcome *outcome = &report->outcome;
    bool panicked = outcome->kind == OUTCOME_PANIC || outcome->kind == OUTCOME_OOPS;
    bool exited = outcome->kind == OUTCOME_EXIT || outcome->kind == OUTCOME_NOT_RUN;

    fputs("{\"kernel\": ", file);
    report_string(file, report->kernel);
    report_text(file, "version", report->version);
    report_text(file, "outcome", outcome_word(outcome->kind));
    report_number(file, "status", outcome_status(outcome));
    report_number(file, "exit", exited ? outcome->number : -1);
    report_number(file, "signal", outcome->kind == OUTCOME_SIGNAL ? outcome->number : -1);
    report_text(file, "panic", panicked ? outcome->text : NULL);
    report_text(file, "message", *outcome->text && !panicked ? outcome->text : NULL);
    fputs(", \"ms\": {\"start\": 0", file);
    report_number(file, "kernel", report->times.kernel);
    report_number(file, "init", report->times.init);
    report_number(file, "command", report->times.command);
    report_number(file, "end", report->times.end);
    fputs("}}", file);
}

void report_json(FILE *file, const struct report *reports, unsigned count)
{
    if (count > 1)
        fputs("[", file);
    for (unsigned i = 0; i < count; i++) {
        if (i > 0)
            fputs(",\n ", file);
        report_object(file, &reports[i]);
    }
    fputs(count > 1 ? "]\n" : "\n", file);
}

void report_table(FILE *file, const struct report *reports, unsigned count)
{
    size_t width = strlen("kernel");

    for (unsigned i = 0; i < count; i++)
        if (strlen(reports[i].version) > width)
            width = strlen(reports[i].version);
    fprintf(file, "%-*s  seconds  result\n", (int)width, "kernel");
    for (unsigned i = 0; i < count; i++) {
        int64_t ms = reports[i].times.end > 0 ? reports[i].times.end : 0;
        char text[256];

        outcome_describe(&reports[i].outcome, text, sizeof(text));
        fprintf(file, "%-*s  %5" PRId64 ".%" PRId64 "  %s\n", (int)width, reports[i].version,
                ms / 1000, ms % 1000 / 100, text);
    }
}
