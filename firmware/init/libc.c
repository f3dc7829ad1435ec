/* SPDX-License-Identifier: MIT */

/* The part of <string.h> that the init uses, and that compilers emit calls to. */
#include <string.h>

void *memcpy(void *restrict to, const void *restrict from, size_t size)
{
    for (size_t i = 0; i < size; i++)
        ((char *)to)[i] = ((const char *)from)[i];
    return to;
}

void *memset(void *to, int value, size_t size)
{
    for (size_t i = 0; i < size; i++)
        ((char *)to)[i] = (char)value;
    return to;
}

size_t strlen(const char *string)
{
    size_t length = 0;

    while (string[length])
        length++;
    return length;
}

int strncmp(const char *a, const char *b, size_t size)
{
    size_t i = 0;

    while (i < size && a[i] && a[i] == b[i])
        i++;
    return i == size ? 0 : (unsigned char)a[i] - (unsigned char)b[i];
}

int strcmp(const char *a, const char *b)
{
    return strncmp(a, b, (size_t)-1);
}

char *strchr(const char *string, int wanted)
{
    while (*string && *string != (char)wanted)
        string++;
    return *string == (char)wanted ? (char *)string : NULL;
}
