/* SPDX-License-Identifier: MIT */
#ifndef VMM_CONFIG_OPTION_H
#define VMM_CONFIG_OPTION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * A command line described by a table. The parser, --help, the manual and the shells' completions
 * all use the same table.
 * An option takes either a plain value or one of several forms. A form is a word, optionally with
 * a value, and after commas the keys that this form accepts. Options, forms and keys have the same
 * struct; lists end with an entry without a name.
 *
 *     --net user,host-loopback,mac=52:54:00:12:34:56
 *     option form key          key
 */
struct arena;
struct option;

/* The command line of minivmm, or of a sub-command. */
struct option_table {
    const char *program; /* "minivmm", "minivmm run" */
    const char *usage;   /* the arguments, for the first line of --help */
    const struct option *options;
};

/* The parser's state. */
struct option_reader {
    const struct option_table *table;
    const struct option_table *other;         /* another command line, for messages; may be NULL */
    void *base;                               /* the struct that the options store to */
    struct arena *arena;                      /* for memory that `base` will point to */
    const struct option *option, *form, *key; /* being read; the last two may be NULL */
    void *filled;                             /* what the form's keys store to: set by its read() */
};

struct option {
    const char *name;
    char letter;          /* short form of an option, or 0 */
    bool repeats;         /* a key that may be given more than once */
    bool rare;            /* in the manual only, as --help must fit on a screen; of the first form:
                             none of the option's forms */
    bool bare;            /* of the first form: its name may be omitted: FILE for path=FILE */
    const char *argument; /* the value's name in --help; NULL: takes no value */
    const char *help;     /* one line */
    const char *more;     /* more text for the manual, or NULL */
    const char *arch;     /* the only architecture with this option; NULL: all */

    /*
     * Stores `value` (NULL: none was given) to `target`. 0, or 1 to stop reading successfully, as
     * after --help. Prints; -errno.
     */
    int (*read)(struct option_reader *r, char *value, void *target);
    size_t at;         /* offset of `target` in reader->base; of a key: in reader->filled */
    uint64_t min, max; /* limits of a number or of a text's length */

    const struct option *forms; /* of an option; NULL: it takes a plain value */
    const struct option *keys;  /* of a form; NULL: none */
};

bool option_is_available(const struct option *option); /* does this architecture have it? */

/* Is the word one of its options, or one with its value? */
bool option_is_of(const struct option_table *table, const char *word);

/* Reads one option with its value and advances `*words`. 0, 1 to stop reading, or -errno. */
int option_read_next(struct option_reader *r, char ***words);

/* Implementations of read(), with the type that `target` points to. */
int option_read_text(struct option_reader *r, char *value, void *target);    /* const char * */
int option_read_flag(struct option_reader *r, char *value, void *target);    /* bool: [=on|off] */
int option_read_negated(struct option_reader *r, char *value, void *target); /* bool, negated */
int option_read_number(struct option_reader *r, char *value, void *target);  /* int, unsigned */
int option_read_choice(struct option_reader *r, char *value, void *target);  /* enum, as argument */
int option_read_size(struct option_reader *r, char *value, void *target);    /* uint64_t bytes */
int option_read_duration(struct option_reader *r, char *value, void *target); /* uint64_t ms */
int option_read_forward(struct option_reader *r, char *value, void *target);  /* appends to a list
                                                                         of struct slirp_forward */
int option_print_help(struct option_reader *r, char *value, void *target);
int option_print_version(struct option_reader *r, char *value, void *target);

/* For read(): prints the message with a prefix such as "--net user: mac: ". Returns -EINVAL. */
int option_refuse(const struct option_reader *r, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

#endif
