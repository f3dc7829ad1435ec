/* SPDX-License-Identifier: MIT */
#ifndef GUESTS_LIB_GUEST_H
#define GUESTS_LIB_GUEST_H

#include "lib/platform.h"

/*
 * The runtime of a bare-metal payload: a program that tests one thing, prints its results to the
 * serial port, and exits with 0 if they are as expected. The Python tests check both.
 */
#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

#define EXIT_UNEXPECTED 1

/* Supports %s, %u, %x, %lu and %lx. */
void print(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Unless `condition` holds, prints it with its place and exits with EXIT_UNEXPECTED. */
#define expect(condition) ((condition) ? (void)0 : unexpected(__FILE__, __LINE__, #condition))
_Noreturn void unexpected(const char *file, unsigned line, const char *condition);

/* The same for equality of two numbers, which it prints. */
#define expect_equal(a, b) check_equal(__FILE__, __LINE__, #a, (a), (b))
void check_equal(const char *file, unsigned line, const char *what, uint64_t a, uint64_t b);

/* Polls until `condition` holds; exits with EXIT_UNEXPECTED after WAIT_MS. */
#define WAIT_MS 60000 /* the host may be busy */
#define wait_for(condition)                                                          \
    do {                                                                             \
        for (uint64_t end = platform_ms() + WAIT_MS; !(condition); platform_relax()) \
            expect(platform_ms() < end && #condition);                               \
    } while (0)

/* Compares the n-th word of the command line, or reads it as a decimal number. */
bool word_is(unsigned n, const char *text);
unsigned word_number(unsigned n);

void *memcpy(void *restrict to, const void *restrict from, size_t size);
void *memset(void *to, int byte, size_t size);
int memcmp(const void *a, const void *b, size_t size);

#endif
