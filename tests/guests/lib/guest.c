/* SPDX-License-Identifier: MIT */
#include "lib/guest.h"

#include <stdarg.h>

static void print_text(const char *text)
{
    while (*text)
        platform_put(*text++);
}

static void print_number(unsigned long value, unsigned base)
{
    char digits[20];
    unsigned count = 0;

    do
        digits[count++] = "0123456789abcdef"[value % base];
    while (value /= base);
    while (count > 0)
        platform_put(digits[--count]);
}

void print(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    for (const char *c = format; *c; c++) {
        bool is_long;

        if (*c != '%') {
            platform_put(*c);
            continue;
        }
        is_long = *++c == 'l';
        c += is_long;
        if (*c == 's')
            print_text(va_arg(args, const char *));
        else
            print_number(is_long ? va_arg(args, unsigned long) : va_arg(args, unsigned),
                         *c == 'x' ? 16 : 10);
    }
    va_end(args);
}

_Noreturn void unexpected(const char *file, unsigned line, const char *condition)
{
    print("%s:%u: failed: %s\n", file, line, condition);
    platform_exit(EXIT_UNEXPECTED);
}

void check_equal(const char *file, unsigned line, const char *what, uint64_t a, uint64_t b)
{
    if (a == b)
        return;
    print("%s:%u: %s is %lx, not %lx\n", file, line, what, a, b);
    platform_exit(EXIT_UNEXPECTED);
}

/* The start of the n-th word of the command line. */
static const char *word(unsigned n)
{
    const char *c = platform_cmdline();

    for (; n > 0 && *c; c++)
        n -= *c == ' ';
    return c;
}

bool word_is(unsigned n, const char *text)
{
    const char *c = word(n);

    while (*text && *c == *text)
        c++, text++;
    return !*text && (!*c || *c == ' ');
}

unsigned word_number(unsigned n)
{
    unsigned value = 0;

    for (const char *c = word(n); *c && *c != ' '; c++) {
        expect(*c >= '0' && *c <= '9');
        value = value * 10 + (unsigned)(*c - '0');
    }
    return value;
}

/* The compiler generates calls of these. */

void *memcpy(void *restrict to, const void *restrict from, size_t size)
{
    for (size_t i = 0; i < size; i++)
        ((char *)to)[i] = ((const char *)from)[i];
    return to;
}

void *memset(void *to, int byte, size_t size)
{
    for (size_t i = 0; i < size; i++)
        ((char *)to)[i] = (char)byte;
    return to;
}

int memcmp(const void *a, const void *b, size_t size)
{
    for (size_t i = 0; i < size; i++)
        if (((const uint8_t *)a)[i] != ((const uint8_t *)b)[i])
            return ((const uint8_t *)a)[i] - ((const uint8_t *)b)[i];
    return 0;
}
