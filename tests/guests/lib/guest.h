/* SPDX-License-Identifier: MIT */
#ifndef GUESTS_LIB_GUEST_H
#define GUESTS_LIB_GUEST_H

#include "lib/platform.h"

/*
 * The runtime of a bare-metal payload: a program of one behaviour that prints what it finds on the
 * serial port and exits with 0 when that is what it wants. The tests in Python read both.
 */
#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

#define EXIT_UNEXPECTED 1

/* Knows %s, %u, %x and the last two with l. */
void print(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Says where and what, and ends the payload, unless `condition` holds. */
#define expect(condition) ((condition) ? (void)0 : unexpected(__FILE__, __LINE__, #condition))
_Noreturn void unexpected(const char *file, unsigned line, const char *condition);

/* The same for two numbers, which it prints. */
#define expect_equal(a, b) check_equal(__FILE__, __LINE__, #a, (a), (b))
void check_equal(const char *file, unsigned line, const char *what, uint64_t a, uint64_t b);

/* Loops until `condition` holds; a payload whose wait is in vain ends. */
#define WAIT_MS 60000 /* the host may be busy */
#define wait_for(condition)                                                          \
    do {                                                                             \
        for (uint64_t end = platform_ms() + WAIT_MS; !(condition); platform_relax()) \
            expect(platform_ms() < end && #condition);                               \
    } while (0)

/* The n-th word of the command line: is it this one; which decimal number is it. */
bool word_is(unsigned n, const char *text);
unsigned word_number(unsigned n);

void *memcpy(void *restrict to, const void *restrict from, size_t size);
void *memset(void *to, int byte, size_t size);
int memcmp(const void *a, const void *b, size_t size);

#endif
