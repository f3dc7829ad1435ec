/* SPDX-License-Identifier: MIT */
#ifndef VMM_CONFIG_PARSE_H
#define VMM_CONFIG_PARSE_H

#include <stdbool.h>
#include <stdint.h>

/*
 * The words of a command line as values. Each takes the whole text or returns false, with nothing
 * stored; none prints. Numbers are decimal or 0x..., without sign, space or fraction.
 */
bool parse_number(const char *text, uint64_t *ret);
bool parse_size(const char *text, uint64_t *ret_bytes);  /* 4096, 512M, 4g: K, M, G or T */
bool parse_duration(const char *text, uint64_t *ret_ms); /* 30 or 30s, 500ms, 5m, 2h */
bool parse_mac(const char *text, uint8_t mac[6]);        /* of a single card: no group address */

/* The index of `text` in "none|stdio|file". */
bool parse_choice(const char *choices, const char *text, unsigned *ret);

/* [tcp|udp]:[ADDRESS:]PORT-[:]PORT. Without an address it is 127.0.0.1. Leaves ret->next. */
struct slirp_forward;
bool parse_forward(const char *text, struct slirp_forward *ret);

/*
 * Cuts the next word, up to a comma, off `*rest`, which becomes NULL after the last. A doubled
 * comma is a comma in the word. Changes the text in place.
 */
char *parse_cut(char **rest);

#endif
