/* SPDX-License-Identifier: MIT */
#include "vmm/config/option.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "devices/net/slirp.h"
#include "settings.h"
#include "vmm/config/parse.h"
#include "vmm/core/arena.h"
#include "vmm/core/base.h"
#include "vmm/core/log.h"

#define STOP           1 /* returned by read(): stop reading, successfully */
#define YEAR_MS        (365ull * 24 * 3600 * 1000)
#define COLUMNS        80
#define LONGEST_OPTION 16

int option_refuse(const struct option_reader *r, const char *fmt, ...)
{
    bool named_form = r->form && !r->form->bare;
    char text[512];
    va_list args;

    va_start(args, fmt);
    vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    return log_refuse(EINVAL, "--%s%s%s: %s%s%s", r->option->name, named_form ? " " : "",
                      named_form ? r->form->name : "", r->key ? r->key->name : "",
                      r->key ? ": " : "", text);
}

static const struct option *option_current(const struct option_reader *r)
{
    return r->key ? r->key : r->form ? r->form : r->option;
}

int option_read_text(struct option_reader *r, char *value, void *target)
{
    const struct option *option = option_current(r);
    size_t length = strlen(value);

    if (length < option->min)
        return option_refuse(r, "needs a value: %s", option->argument);
    if (option->max && length > option->max)
        return option_refuse(r, "'%s' is longer than %llu characters", value,
                             (unsigned long long)option->max);
    *(const char **)target = value;
    return 0;
}

int option_read_flag(struct option_reader *r, char *value, void *target)
{
    unsigned choice = 1;

    if (value && !parse_choice("off|on", value, &choice))
        return option_refuse(r, "'%s' is neither on nor off", value);
    *(bool *)target = choice;
    return 0;
}

int option_read_negated(struct option_reader *r, char *value, void *target)
{
    int error = option_read_flag(r, value, target);

    *(bool *)target ^= !error;
    return error;
}

int option_read_choice(struct option_reader *r, char *value, void *target)
{
    const char *choices = option_current(r)->argument;

    if (!parse_choice(choices, value, target))
        return option_refuse(r, "'%s' is not one of %s", value, choices);
    return 0;
}

int option_read_number(struct option_reader *r, char *value, void *target)
{
    const struct option *option = option_current(r);
    uint64_t number;

    if (!parse_number(value, &number) || number < option->min || number > option->max)
        return option_refuse(r, "'%s' is not a number from %llu to %llu", value,
                             (unsigned long long)option->min, (unsigned long long)option->max);
    *(unsigned *)target = (unsigned)number;
    return 0;
}

int option_read_forward(struct option_reader *r, char *value, void *target)
{
    struct slirp_forward **forwards = target, *forward = arena_alloc(r->arena, sizeof(*forward));

    if (!forward)
        return log_error(ENOMEM, "hostfwd");
    if (!parse_forward(value, forward))
        return option_refuse(r, "'%s' is not of the form %s", value, r->key->argument);
    list_append(forwards, forward);
    return 0;
}

int option_read_size(struct option_reader *r, char *value, void *target)
{
    const struct option *option = option_current(r);
    uint64_t size;

    if (!parse_size(value, &size) || size < option->min || size > option->max)
        return option_refuse(r, "'%s' is not a size from %lluM to %lluG, such as 4G", value,
                             option->min / MIB, option->max / GIB);
    if (size % MIB)
        return option_refuse(r, "'%s' is not a multiple of 1M", value);
    *(uint64_t *)target = size;
    return 0;
}

int option_read_duration(struct option_reader *r, char *value, void *target)
{
    uint64_t ms;

    if (!parse_duration(value, &ms) || ms > YEAR_MS)
        return option_refuse(r, "'%s' is not a time up to a year, such as 30s, 500ms, 5m or 2h",
                             value);
    *(uint64_t *)target = ms;
    return 0;
}

/* Writes "file=PATH[,append]" to `text`. */
static void option_describe_form(const struct option *form, char *text, size_t size)
{
    size_t used = (size_t)snprintf(text, size, "%s%s%s", form->bare ? "" : form->name,
                                   form->argument && !form->bare ? "=" : "",
                                   form->argument ? form->argument : "");

    for (const struct option *key = form->keys; key && key->name && used < size; key++)
        if (!key->rare)
            used += (size_t)snprintf(text + used, size - used, "[,%s%s%s]%s", key->name,
                                     key->argument ? "=" : "", key->argument ? key->argument : "",
                                     key->repeats ? "..." : "");
}

/* Prints the forms, separated by bars, on as few lines as possible. */
static void option_print_forms(const struct option *forms)
{
    size_t column = 0;

    for (const struct option *form = forms; form->name; form++) {
        char text[2 * COLUMNS];

        option_describe_form(form, text, sizeof(text));
        if (column && column + strlen(text) + strlen(" |  |") <= COLUMNS)
            column += (size_t)printf(" | ");
        else
            column = (size_t)printf(column ? " |\n      " : "      ");
        column += (size_t)printf("%s", text);
    }
    putchar('\n');
}

static int option_end_print(void)
{
    return fflush(stdout) || ferror(stdout) ? log_error(errno, "write to standard output") : STOP;
}

bool option_is_available(const struct option *option)
{
    return !option->arch || !strcmp(option->arch, MINIVMM_ARCH);
}

int option_print_help(struct option_reader *r, char *value, void *target)
{
    const struct option *option = r->table->options;

    printf("Usage: %s %s\n", r->table->program, r->table->usage);
    for (; option->name; option++) {
        char left[COLUMNS], letter[] = "   ";

        if (!option_is_available(option) || option->rare)
            continue;
        if (option->letter)
            snprintf(letter, sizeof(letter), "-%c,", option->letter);
        snprintf(left, sizeof(left), "  %s --%s %s", letter, option->name,
                 option->argument ? option->argument : "");
        printf("%-25s  %s\n", left, option->help);
        if (option->forms && option->forms != option[-1].forms && !option->forms->rare)
            option_print_forms(option->forms);
    }
    return option_end_print();
}

int option_print_version(struct option_reader *r, char *value, void *target)
{
    printf("minivmm %s\n", MINIVMM_VERSION);
    return option_end_print();
}

/* The parser. */

static const struct option *option_find(const struct option *list, const char *name, size_t length)
{
    for (; list->name; list++)
        if (strlen(list->name) == length && !strncmp(list->name, name, length) &&
            option_is_available(list))
            return list;
    return NULL;
}

/* The Levenshtein distance of two words. */
static size_t option_distance(const char *a, size_t length, const char *b)
{
    size_t row[LONGEST_OPTION + 1], columns = strlen(b);

    assert(columns <= LONGEST_OPTION);
    for (size_t j = 0; j <= columns; j++)
        row[j] = j;
    for (size_t i = 0; i < length; i++) {
        size_t diagonal = row[0];

        row[0] = i + 1;
        for (size_t j = 0; j < columns; j++) {
            size_t best = diagonal + (a[i] != b[j]);

            diagonal = row[j + 1];
            if (best > diagonal + 1)
                best = diagonal + 1;
            if (best > row[j] + 1)
                best = row[j] + 1;
            row[j + 1] = best;
        }
    }
    return row[columns];
}

/* The name that was probably meant: has this prefix, or a distance of at most 2. NULL: none. */
static const char *option_nearest(const struct option *option, const char *name, size_t length)
{
    const char *nearest = NULL;
    size_t least = 3;

    for (; option->name; option++) {
        size_t distance =
            !strncmp(option->name, name, length) ? 1 : option_distance(name, length, option->name);

        if (length > 1 && distance < least && distance < length && option_is_available(option)) {
            nearest = option->name;
            least = distance;
        }
    }
    return nearest;
}

/*
 * Finds a short option, whose value may follow the letter in the same word; *length becomes that of
 * the option alone. -kernel is not -k: the user forgot a dash.
 */
static const struct option *option_find_letter(const struct option *list, const char *word,
                                               size_t *length)
{
    if (option_find(list, word + 1, *length - 1))
        return NULL;
    for (; list->name; list++)
        if (list->letter && list->letter == word[1] && (*length == 2 || list->argument)) {
            *length = 2;
            return list;
        }
    return NULL;
}

/* Finds the option that a word is, or begins with; *length becomes that of the option alone. */
static const struct option *option_find_word(const struct option *list, const char *word,
                                             size_t *length)
{
    *length = strcspn(word, "=");
    return word[1] == '-' ? option_find(list, word + 2, *length - 2)
                          : option_find_letter(list, word, length);
}

bool option_is_of(const struct option_table *table, const char *word)
{
    size_t length;

    return word[0] == '-' && word[1] && option_find_word(table->options, word, &length);
}

/* Does an option follow where a value is expected, or the end of the options? */
static bool option_follows(const struct option *list, const char *word)
{
    size_t length;

    if (word[0] != '-' || !word[1])
        return false;
    return !strcmp(word, "--") ||
           (option_find_word(list, word, &length) && (word[1] == '-' || !word[length]));
}

static int option_refuse_unknown(const struct option_reader *r, const char *word)
{
    const struct option_table *table = r->table;
    size_t length = strcspn(word, "="), dashes = strspn(word, "-");
    const char *nearest = option_nearest(table->options, word + dashes, length - dashes);

    if (r->other && option_is_of(r->other, word))
        return log_refuse(EINVAL, "'%.*s' is an option of %s, not of %s (see %s --help)",
                          (int)length, word, r->other->program, table->program, table->program);
    if (nearest)
        return log_refuse(EINVAL, "unknown option '%.*s'; did you mean --%s?", (int)length, word,
                          nearest);
    return log_refuse(EINVAL, "unknown option '%.*s' (see %s --help)", (int)length, word,
                      table->program);
}

static int option_refuse_name(const struct option_reader *r, const char *what, const char *name,
                              const struct option *list)
{
    char known[256] = "";

    for (size_t used = 0; list->name && used < sizeof(known); list++)
        used += (size_t)snprintf(known + used, sizeof(known) - used, "%s%s", used ? ", " : "",
                                 list->name);
    return option_refuse(r, "unknown %s '%s'; known: %s", what, name, known);
}

static bool option_is_flag(const struct option *option)
{
    return option->read == option_read_flag || option->read == option_read_negated;
}

static int option_store(struct option_reader *r, char *value, void *base)
{
    const struct option *option = option_current(r);

    if (option->argument && !value)
        return option_refuse(r, "needs a value: %s", option->argument);
    if (!option->argument && value && !option_is_flag(option))
        return option_refuse(r, "takes no value");
    return option->read(r, value, (char *)base + option->at);
}

/* Splits NAME=VALUE: truncates `word` to NAME and returns VALUE, or NULL if there is none. */
static char *option_cut_value(char *word)
{
    char *value = strchr(word, '=');

    if (value)
        *value++ = '\0';
    return value;
}

static int option_read_key(struct option_reader *r, char *word, unsigned *seen)
{
    const struct option *keys = r->form->keys;
    char *value = option_cut_value(word);
    const struct option *key = keys ? option_find(keys, word, strlen(word)) : NULL;
    unsigned bit;

    r->key = NULL;
    if (!keys)
        return option_refuse(r, "takes no keys; remove '%s'", word);
    if (!key)
        return option_refuse_name(r, "key", word, keys);
    bit = 1u << (key - keys);
    if (*seen & bit && !key->repeats)
        return option_refuse(r, "'%s' is given twice", key->name);
    *seen |= bit;
    r->key = key;
    return option_store(r, value, r->filled);
}

static int option_read_form(struct option_reader *r, char *rest)
{
    const struct option *forms = r->option->forms;
    char *word = parse_next_word(&rest), *value;
    unsigned seen = 0;
    int error;

    r->form = option_find(forms, word, strcspn(word, "="));
    if (forms->bare && !(r->form && strchr(word, '='))) {
        r->form = forms; /* the word is the value, even if it contains '=' */
        value = word;
    } else {
        value = option_cut_value(word);
    }
    if (!r->form)
        return option_refuse_name(r, "word", word, forms);

    error = option_store(r, value, (char *)r->base + r->option->at);
    while (!error && (word = parse_next_word(&rest)))
        error = option_read_key(r, word, &seen);
    return error;
}

static int option_read_value(struct option_reader *r, const struct option *option, char *value)
{
    char *copy;

    r->option = option;
    r->form = r->key = NULL;
    if (!option->forms || !value)
        return option_store(r, value, r->base);

    copy = arena_alloc(r->arena, strlen(value) + 1);
    if (!copy)
        return log_error(ENOMEM, "--%s", option->name);
    return option_read_form(r, strcpy(copy, value));
}

int option_read_next(struct option_reader *r, char ***words)
{
    char *word = *(*words)++, *value = NULL;
    const struct option *option, *list = r->table->options;
    size_t length;

    if (word[0] != '-' || !word[1])
        return log_refuse(EINVAL, "unexpected argument '%s' (see %s --help)", word,
                          r->table->program);
    option = option_find_word(list, word, &length);
    if (!option)
        return option_refuse_unknown(r, word);

    if (word[length])
        value = word + length + (word[length] == '=');
    else if (option->argument && **words && option_follows(list, **words))
        return log_refuse(EINVAL, "--%s: needs a value: %s; if it is '%s', write --%s=%s",
                          option->name, option->argument, **words, option->name, **words);
    else if (option->argument && **words)
        value = *(*words)++;
    return option_read_value(r, option, value);
}
