/* SPDX-License-Identifier: MIT */

/* Prints the manual page: copies standard input, with @LISTS@ made from the program's tables. */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/cli/status.h"
#include "vmm/config/schema.h"
#include "vmm/core/base.h"
#include "vmm/run/options.h"
#include "vmm/run/warm_command.h"
#include "vmm/snapshot/snapshot_command.h"

struct status_text {
    enum status status;
    const char *text;
};

static const struct status_text statuses[] = {
    { STATUS_POWER_OFF, "The guest powered off, or the user left with Ctrl-A x." },
    { STATUS_USAGE, "Wrong usage." },
    { STATUS_RESET, "The guest reset itself, and --no-reboot was given." },
    { STATUS_PANIC, "The guest's kernel panicked." },
    { STATUS_TRIPLE_FAULT, "The guest ended in a triple fault." },
    { STATUS_KVM_FAILURE, "KVM failed; the state of the virtual CPU was printed." },
    { STATUS_TIMEOUT, "--timeout expired." },
    { STATUS_FAILED, "minivmm itself failed, and printed why." },
};

/* Exit statuses of minivmm run. */
static const struct status_text run_statuses[] = {
    { STATUS_GONE, "The guest powered off before the command ended." },
    { STATUS_HANG, "The guest did not start the command within --boot-timeout." },
    { STATUS_OOPS, "The guest's kernel had an oops." },
    { STATUS_RESET, "The guest reset itself before the command ended." },
    { STATUS_PANIC, "The guest's kernel panicked." },
    { STATUS_TIMEOUT, "--timeout expired." },
    { STATUS_FAILED, "minivmm itself failed, and printed why; wrong usage, too." },
    { 126, "The command was found but could not be executed." },
    { 127, "The command was not found." },
};

/* Prints text for mdoc: backslashes and hyphens escaped, each sentence on its own line. */
static void print_text(const char *text)
{
    unsigned column = 0;

    for (; *text; text++, column++) {
        if (*text == ' ' && (text[-1] == '.' || column > 60)) {
            putchar('\n');
            column = 0;
        } else if (*text == '\\') {
            printf("\\e");
        } else if (*text == '-') {
            printf("\\-");
        } else {
            putchar(*text);
        }
    }
}

/* Prints an option's help as sentences: capitalized, with full stops. */
static void print_help(const struct option *option)
{
    putchar(toupper((unsigned char)option->help[0]));
    print_text(option->help + 1);
    printf(".\n");
    if (option->more) {
        print_text(option->more);
        putchar('\n');
    }
}

static void print_argument(const struct option *option, const char *between)
{
    if (option->argument) {
        printf("%s Ar ", between);
        print_text(option->argument);
    }
}

static void print_form(const struct option *form)
{
    if (form->bare) {
        print_argument(form, ".It");
    } else {
        printf(".It Cm %s", form->name);
        print_argument(form, " Ns = Ns");
    }
    putchar('\n');
    print_help(form);
    if (!form->keys)
        return;

    printf(".Bl -tag -width Ds -compact\n");
    for (const struct option *key = form->keys; key->name; key++) {
        printf(".It Cm ,%s", key->name);
        print_argument(key, " Ns = Ns");
        putchar('\n');
        print_help(key);
        if (key->repeats)
            printf("May be repeated.\n");
    }
    printf(".El\n");
}

/* Has an earlier option the same forms? Those of minivmm without a sub-command come first. */
static bool forms_are_known(const struct option *option)
{
    const struct option *other = config_table.options;

    while (other->name && other != option && other->forms != option->forms)
        other++;
    return other->name && other != option;
}

static void print_forms(const struct option *option)
{
    if (!option->forms || forms_are_known(option))
        return;
    printf(".Pp\n.Bl -tag -width Ds -compact\n");
    for (const struct option *form = option->forms; form->name; form++)
        print_form(form);
    printf(".El\n");
}

static void print_options(const struct option *option)
{
    printf(".Bl -tag -width Ds\n");
    for (; option->name; option++) {
        if (!option_is_available(option))
            continue;
        printf(".It ");
        if (option->letter)
            printf("Fl %c , ", option->letter);
        printf("Fl -%s", option->name);
        print_argument(option, "");
        putchar('\n');
        print_help(option);
        print_forms(option);
    }
    printf(".El\n");
}

static void print_status_texts(const struct status_text *texts, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        printf(".It %d\n", texts[i].status);
        print_text(texts[i].text);
        putchar('\n');
    }
}

static void print_statuses(void)
{
    print_status_texts(statuses, ARRAY_SIZE(statuses));
    printf(".It %d+N\nSignal N ended minivmm: SIGTERM %d, SIGINT %d, SIGHUP %d.\n", STATUS_SIGNAL,
           STATUS_SIGNAL + 15, STATUS_SIGNAL + 2, STATUS_SIGNAL + 1);
}

int main(void)
{
    static const struct {
        const char *line;
        const struct option_table *table;
    } lists[] = {
        { "@OPTIONS@\n", &config_table },
        { "@RUN_OPTIONS@\n", &run_options_table },
        { "@SNAPSHOT_OPTIONS@\n", &snapshot_table },
        { "@RESTORE_OPTIONS@\n", &restore_table },
        { "@FORK_OPTIONS@\n", &fork_table },
        { "@REWIND_OPTIONS@\n", &rewind_table },
        { "@WARM_OPTIONS@\n", &warm_table },
    };
    char line[512];

    while (fgets(line, sizeof(line), stdin)) {
        const struct option_table *table = NULL;

        for (unsigned i = 0; i < ARRAY_SIZE(lists); i++)
            if (!strcmp(line, lists[i].line))
                table = lists[i].table;
        if (table)
            print_options(table->options);
        else if (!strcmp(line, "@STATUS@\n"))
            print_statuses();
        else if (!strcmp(line, "@RUN_STATUS@\n"))
            print_status_texts(run_statuses, ARRAY_SIZE(run_statuses));
        else
            fputs(line, stdout);
    }
    return ferror(stdin) || fflush(stdout) ? EXIT_FAILURE : EXIT_SUCCESS;
}
