/* SPDX-License-Identifier: MIT */
#ifndef VMM_CONFIG_PARSE_H
#define VMM_CONFIG_PARSE_H

#include <stdbool.h>
#include <stdint.h>

/*
 * Parse values of the command line. Each function parses the whole text, or stores nothing and
 * returns false; none prints. Numbers are decimal or 0x..., without sign, space or fraction.
 */
bool parse_number(const char *text, uint64_t *ret);
bool parse_size(const char *text, uint64_t *ret_bytes);  /* 4096, 512M, 4g: K, M, G or T */
bool parse_duration(const char *text, uint64_t *ret_ms); /* 30 or 30s, 500ms, 5m, 2h */
bool parse_mac(const char *text, uint8_t mac[6]);        /* a unicast address */

/* Finds the index of `text` in `choices`, such as "none|stdio|file". */
bool parse_choice(const char *choices, const char *text, unsigned *ret);

/* [tcp|udp]:[ADDRESS:]PORT-[:]PORT. The default address is 127.0.0.1. Leaves ret->next as it is. */
struct slirp_forward;
bool parse_forward(const char *text, struct slirp_forward *ret);

/*
 * Returns the next word of a list separated by commas, and advances `*rest`: NULL after the last
 * word. A doubled comma stands for a comma in the word. Changes the text in place.
 */
char *parse_next_word(char **rest);

#endif
