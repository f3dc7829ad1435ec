/* SPDX-License-Identifier: MIT */
#ifndef VMM_CONTROL_JSON_H
#define VMM_CONTROL_JSON_H

#include <stdbool.h>
#include <stddef.h>

/*
 * JSON by libjansson, which is loaded when it is needed first: most machines have no control
 * socket.
 */
struct json; /* any value */

/* Loads the library: before a sandbox is entered. Prints; -errno. */
int json_open(void);

/* NULL: not JSON, with the reason in `why`. json_free() is due otherwise. */
struct json *json_read(const char *bytes, size_t size, char *why, size_t why_size);
void json_free(struct json *json);

/* A member of an object, owned by that; NULL if there is none, or null. */
const struct json *json_member(const struct json *object, const char *key);
const char *json_text(const struct json *json); /* NULL: not a string */
bool json_is_flag(const struct json *json);     /* true or false; not for NULL */
bool json_flag(const struct json *json);        /* false for NULL as well */
/* An entry of an array, owned by that; NULL past the last, or if it is no array. */
const struct json *json_entry(const struct json *array, size_t index);

/*
 * Whether each member of the object is among `keys`, a list that ends with NULL. If not, *ret; NULL
 * there: it is no object.
 */
bool json_has_only(const struct json *object, const char *const keys[], const char **ret);

/*
 * Writes `text` as a string with its quotes into `to`, cut off if it does not fit. What is not
 * UTF-8, as in names of files, becomes U+FFFD.
 */
const char *json_quote(const char *text, char *to, size_t size);

#endif
