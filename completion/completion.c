/* SPDX-License-Identifier: MIT */

/* Prints the completion of a shell: copies standard input, with @TABLE@, @OPTIONS@ and the like
 * made from the program's tables. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/config/schema.h"
#include "vmm/core/base.h"
#include "vmm/run/options.h"
#include "vmm/run/warm_command.h"
#include "vmm/snapshot/snapshot_command.h"

/* The first one is minivmm's, those after it are of its sub-commands. */
static const struct option_table *const tables[] = {
    &config_table, &run_options_table, &snapshot_table, &restore_table,
    &fork_table,   &rewind_table,      &warm_table,
};

/* Lines that stand for the options of a table. */
static const char *const places[ARRAY_SIZE(tables)] = {
    "@OPTIONS@\n",      "@RUN_OPTIONS@\n",    "@SNAPSHOT_OPTIONS@\n", "@RESTORE_OPTIONS@\n",
    "@FORK_OPTIONS@\n", "@REWIND_OPTIONS@\n", "@WARM_OPTIONS@\n",
};

/* What completes a value, by the name that the table gives it. No row: nothing does. */
static const struct value {
    const char *argument;
    const char *bash; /* a word of minivmm.bash's tables */
    const char *zsh;  /* an action of _arguments */
} values[] = {
    { "FILE", "<file>", "_files" },
    { "PATH", "<file>", "_files" },
    { "DIR", "<dir>", "_files -/" },
    { "DIR[:GUESTDIR]", "<dir>", "_files -/" },
    { "USER", "<user>", "_users" },
    { "IFACE", "<interface>", "_net_interfaces" },
    { "NAME[=VALUE]", "<variable>", "_parameters -g \"*export*\"" },
};

static bool is_flag(const struct option *option)
{
    return option->read == option_read_flag || option->read == option_read_negated;
}

static const struct value *value_of(const struct option *option)
{
    for (unsigned i = 0; i < ARRAY_SIZE(values); i++)
        if (option->argument && !strcmp(option->argument, values[i].argument))
            return &values[i];
    return NULL;
}

/* Prints the words of a choice, separated by spaces. */
static void print_choices(const char *choices)
{
    for (; *choices; choices++)
        putchar(*choices == '|' ? ' ' : *choices);
}

/* The first option that takes these forms: several may, as --serial and --console. */
static const struct option *first_with(const struct option *forms)
{
    const struct option *option = NULL;

    for (unsigned i = 0; i < ARRAY_SIZE(tables); i++)
        for (option = tables[i]->options; option->name; option++)
            if (option->forms == forms)
                return option;
    return option;
}

/* Bash. */

static void bash_print_value(const struct option *option)
{
    const struct value *value = value_of(option);

    if (is_flag(option))
        printf("on off");
    else if (option->read == option_read_choice)
        print_choices(option->argument);
    else if (value)
        printf("%s", value->bash);
}

/* Prints the keys of a form that is called `name`, and their values. */
static void bash_print_keys(const char *place, const char *name, const struct option *keys)
{
    printf("    ['%s %s,']='", place, name);
    for (const struct option *key = keys; key && key->name; key++)
        printf("%s%s%s", key == keys ? "" : " ", key->name, key->argument ? "=" : "");
    printf("'\n");
    for (const struct option *key = keys; key && key->name; key++) {
        printf("    ['%s %s, %s=']='", place, name, key->name);
        bash_print_value(key);
        printf("'\n");
    }
}

static void bash_print_forms(const char *place, const struct option *forms)
{
    printf("    ['%s']='", place);
    for (const struct option *form = forms; form->name; form++) {
        if (form != forms)
            putchar(' ');
        if (form->bare)
            bash_print_value(form);
        else
            printf("%s%s", form->name, form->argument ? "=" : "");
    }
    printf("'\n");
    for (const struct option *form = forms; form->name; form++) {
        if (form->argument) {
            printf("    ['%s %s=']='", place, form->name);
            bash_print_value(form);
            printf("'\n");
        }
        bash_print_keys(place, form->name, form->keys);
        if (form->bare)
            bash_print_keys(place, "", form->keys);
    }
}

static void bash_print_option(const char *program, const char *dashes, const char *name,
                              const struct option *option)
{
    char place[64];

    snprintf(place, sizeof(place), "%s %s%s%s", program, dashes, name, option->argument ? "" : "=");
    if (option->forms) {
        bash_print_forms(place, option->forms);
    } else if (option->argument || is_flag(option)) {
        printf("    ['%s']='", place);
        bash_print_value(option);
        printf("'\n");
    }
}

static void bash_print_table(const struct option_table *table)
{
    printf("    ['%s']='", table->program);
    for (const struct option *option = table->options; option->name; option++)
        if (option_is_available(option))
            printf("%s--%s", option == table->options ? "" : " ", option->name);
    printf("'\n");
    for (const struct option *option = table->options; option->name; option++) {
        const char letter[2] = { option->letter };

        if (!option_is_available(option))
            continue;
        bash_print_option(table->program, "--", option->name, option);
        if (option->letter)
            bash_print_option(table->program, "-", letter, option);
    }
}

static void bash_print_tables(void)
{
    printf("    ['commands']='");
    for (unsigned i = 1; i < ARRAY_SIZE(tables); i++)
        printf("%s%s", i > 1 ? " " : "", tables[i]->program + strlen("minivmm "));
    printf("'\n");
    for (unsigned i = 0; i < ARRAY_SIZE(tables); i++)
        bash_print_table(tables[i]);
}

/* Zsh. */

/* Prints text inside single quotes and brackets. */
static void zsh_print_text(const char *text)
{
    for (; *text; text++) {
        if (*text == '\'')
            printf("'\\''");
        else if (strchr("[]:\\", *text))
            printf("\\%c", *text);
        else
            putchar(*text);
    }
}

/* Prints what follows an option's or key's description: ":the value's name:its action". */
static void zsh_print_value(const struct option *option)
{
    const struct value *value = value_of(option);

    if (!option->argument)
        return;
    putchar(':');
    zsh_print_text(option->argument);
    putchar(':');
    if (option->read == option_read_choice) {
        putchar('(');
        print_choices(option->argument);
        putchar(')');
    } else if (value) {
        printf("%s", value->zsh);
    }
}

/* Prints a branch: after a text that matches `pattern`, the keys of a form. */
static void zsh_print_keys(const struct option *keys, const char *name, const char *pattern)
{
    if (!keys)
        return;
    printf("    if compset -P 1 '%s%s,'; then\n        _values -s , key", name, pattern);
    for (const struct option *key = keys; key->name; key++) {
        printf(" \\\n            '%s%s[", key->repeats ? "*" : "", key->name);
        zsh_print_text(key->help);
        putchar(']');
        zsh_print_value(key);
        putchar('\'');
    }
    printf("\n        return\n    fi\n");
}

static void zsh_print_form(const struct option *form)
{
    const struct value *value = value_of(form);

    zsh_print_keys(form->keys, form->name, form->argument ? "=*" : "");
    if (form->argument)
        printf("    if compset -P 1 '%s='; then\n        %s\n        return\n    fi\n", form->name,
               value ? value->zsh : "true");
}

/* Prints the names of those forms that take a value, or of those that take none. */
static void zsh_print_names(const struct option *form, bool with_value)
{
    printf("=(");
    for (; form->name; form++) {
        if (form->bare || !form->argument == with_value)
            continue;
        printf(" '%s%s:", form->name, with_value ? "=" : "");
        zsh_print_text(form->help);
        putchar('\'');
    }
    printf(" )");
}

/* Prints the function that completes an option's forms. */
static void zsh_print_forms(const struct option *option)
{
    const struct option *forms = option->forms;

    printf("_minivmm_%s() {\n    local -a plain", option->name);
    zsh_print_names(forms, false);
    printf(" with_value");
    zsh_print_names(forms, true);
    putchar('\n');
    for (const struct option *form = forms; form->name; form++)
        zsh_print_form(form);
    if (forms->bare) {
        zsh_print_keys(forms->keys, "", "*");
        printf("    %s\n", value_of(forms) ? value_of(forms)->zsh : "true");
    }
    printf("    _describe -t forms %s plain\n    _describe -t forms %s with_value -S ''\n}\n\n",
           option->argument, option->argument);
}

/* `name` with its dashes; `join`: how its value may be joined to it. */
static void zsh_print_option(const struct option *option, const char *name, const char *join)
{
    printf("        '%s%s%s[", option->argument ? "*" : "", name, join);
    zsh_print_text(option->help);
    putchar(']');
    if (option->forms)
        printf(":%s:_minivmm_%s", option->argument, first_with(option->forms)->name);
    else if (*join == '=' && is_flag(option))
        printf("::value:(on off)");
    else
        zsh_print_value(option);
    printf("'\n");
}

static void zsh_print_options(const struct option_table *table)
{
    for (const struct option *option = table->options; option->name; option++) {
        char name[64];

        if (!option_is_available(option))
            continue;
        snprintf(name, sizeof(name), "-%c", option->letter);
        if (option->letter)
            zsh_print_option(option, name, option->argument ? "+" : "");
        snprintf(name, sizeof(name), "--%s", option->name);
        zsh_print_option(option, name, option->argument ? "=" : is_flag(option) ? "=-" : "");
    }
}

static void zsh_print_functions(void)
{
    for (unsigned i = 0; i < ARRAY_SIZE(tables); i++)
        for (const struct option *option = tables[i]->options; option->name; option++)
            if (option->forms && option == first_with(option->forms))
                zsh_print_forms(option);
}

static bool zsh_print_place(const char *line)
{
    for (unsigned i = 0; i < ARRAY_SIZE(places); i++)
        if (!strcmp(line, places[i])) {
            zsh_print_options(tables[i]);
            return true;
        }
    return false;
}

int main(int argc, char **argv)
{
    char line[512];

    while (fgets(line, sizeof(line), stdin)) {
        if (!strcmp(line, "@TABLE@\n"))
            bash_print_tables();
        else if (!strcmp(line, "@FORMS@\n"))
            zsh_print_functions();
        else if (!zsh_print_place(line))
            fputs(line, stdout);
    }
    return ferror(stdin) || fflush(stdout) ? EXIT_FAILURE : EXIT_SUCCESS;
}
