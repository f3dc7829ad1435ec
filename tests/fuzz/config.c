/* SPDX-License-Identifier: MIT */

/* Parses the input as a command line: words, each ended by a NUL. */
#include <stdlib.h>
#include <string.h>

#include "vmm/config/config.h"
#include "vmm/config/schema.h"

#define MAX_WORDS 64

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Options that print to stdout, which carries TAP. */
static int prints(const char *word)
{
    return !strcmp(word, "--help") || !strcmp(word, "-h") || !strcmp(word, "--version") ||
           !strcmp(word, "-V");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = calloc(1, size + 1), *argv[MAX_WORDS + 1] = { NULL };
    struct config config;
    int argc = 0;

    if (!text)
        abort();
    memcpy(text, data, size);
    for (size_t at = 0; at < size && argc < MAX_WORDS; at += strlen(text + at) + 1)
        if (!prints(text + at))
            argv[argc++] = text + at;

    if (config_parse(&config, NULL, argc, argv) == CONFIG_RUN && !config.kernel)
        abort();
    if (memcmp(text, data, size) != 0)
        abort(); /* parsing must not change the caller's words */
    config_finish(&config);
    free(text);
    return 0;
}
