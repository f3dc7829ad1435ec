/* SPDX-License-Identifier: MIT */
#ifndef FIRMWARE_INIT_TEXT_H
#define FIRMWARE_INIT_TEXT_H

#include <stdbool.h>
#include <stddef.h>

/*
 * A string builder for lines and paths. Cuts off what does not fit: a path is then longer than the
 * kernel takes (ENAMETOOLONG). Always ends with a NUL.
 */
struct text {
    char bytes[4096 + 1]; /* one more than PATH_MAX */
    size_t used;
};

void text_add(struct text *text, const char *more);
void text_add_bytes(struct text *text, const char *more, size_t length);
void text_add_number(struct text *text, long number);

/* The rest of `string` after `prefix`, or NULL if it does not start with it. */
const char *text_after(const char *string, const char *prefix);

/* The decimal number at the start of a string; 0 if there is none. */
unsigned long text_number(const char *string);

#endif
