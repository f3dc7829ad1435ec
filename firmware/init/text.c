/* SPDX-License-Identifier: MIT */
#include "firmware/init/text.h"

#include <string.h>

void text_add_bytes(struct text *text, const char *more, size_t length)
{
    size_t room = sizeof(text->bytes) - 1 - text->used;

    if (length > room)
        length = room;
    memcpy(text->bytes + text->used, more, length);
    text->used += length;
    text->bytes[text->used] = '\0';
}

void text_add(struct text *text, const char *more)
{
    text_add_bytes(text, more, strlen(more));
}

void text_add_number(struct text *text, long number)
{
    char digits[24], *next = digits + sizeof(digits);
    unsigned long left = number < 0 ? -(unsigned long)number : (unsigned long)number;

    do {
        *--next = (char)('0' + left % 10);
        left /= 10;
    } while (left);
    if (number < 0)
        *--next = '-';
    text_add_bytes(text, next, (size_t)(digits + sizeof(digits) - next));
}

const char *text_after(const char *string, const char *prefix)
{
    size_t length = strlen(prefix);

    return strncmp(string, prefix, length) ? NULL : string + length;
}

unsigned long text_number(const char *string)
{
    unsigned long number = 0;

    while (*string >= '0' && *string <= '9')
        number = number * 10 + (unsigned long)(*string++ - '0');
    return number;
}
