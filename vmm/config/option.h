/* SPDX-License-Identifier: MIT */
#ifndef VMM_CONFIG_OPTION_H
#define VMM_CONFIG_OPTION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * The command line as one table, from which it is read, --help printed and the manual made. An
 * option takes one value, or one of several forms: a word, and after commas the keys that this
 * form knows. Options, forms and keys are described alike; lists end with an entry without a name.
 *
 *     --net user,host-loopback,mac=52:54:00:12:34:56
 *     option form key          key
 */
struct arena;
struct option;

/* A command line: that of minivmm, or of a command within it. */
struct option_table {
    const char *program; /* as the user calls it */
    const char *usage;   /* what follows: the first line of --help */
    const struct option *options;
};

/* The word being read, and where it belongs. */
struct option_reader {
    const struct option_table *table;
    void *base;                               /* the struct that the options' offsets are in */
    struct arena *arena;                      /* for what the base points to */
    const struct option *option, *form, *key; /* the last two may be NULL */
    void *filled;                             /* what the form's keys fill: set by its read() */
};

struct option {
    const char *name;
    char letter;          /* short form of an option, or 0 */
    bool repeats;         /* a key that may be given more than once */
    bool rare;            /* for the manual: --help has room for what most need */
    bool bare;            /* the first form, if its value may stand alone: FILE for path=FILE */
    const char *argument; /* what --help calls the value; NULL: it takes none */
    const char *help;     /* one line */
    const char *more;     /* what the manual says besides; may be NULL */
    const char *arch;     /* the only one that has this option; NULL: all */

    /* Stores `value`, or NULL if there was none, and prints what it refuses. 0 or -errno. */
    int (*read)(struct option_reader *r, char *value, void *target);
    size_t at;         /* offset of the target, in the base; a key's is in what its form filled */
    uint64_t min, max; /* of a number or a text's length */

    const struct option *forms; /* of an option; NULL: it takes a plain value */
    const struct option *keys;  /* of a form; NULL: none */
};

bool option_is_here(const struct option *option); /* on this architecture */

/* Takes one option with its value off `*words`. 0, 1 if nothing is left to do, or -errno. */
int option_read_next(struct option_reader *r, char ***words);

/* read() for the usual types. */
int option_read_text(struct option_reader *r, char *value, void *target);   /* const char * */
int option_read_flag(struct option_reader *r, char *value, void *target);   /* bool: [=on|off] */
int option_read_no(struct option_reader *r, char *value, void *target);     /* the same, negated */
int option_read_number(struct option_reader *r, char *value, void *target); /* int, unsigned */
int option_read_choice(struct option_reader *r, char *value, void *target); /* enum, as argument */
int option_read_size(struct option_reader *r, char *value, void *target);   /* uint64_t bytes */
int option_read_duration(struct option_reader *r, char *value, void *target); /* uint64_t ms */
int option_print_help(struct option_reader *r, char *value, void *target);
int option_print_version(struct option_reader *r, char *value, void *target);

/* For read(): prints "--net user: mac: " and the sentence, returns -EINVAL. */
int option_refuse(const struct option_reader *r, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

#endif
