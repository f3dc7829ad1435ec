/* SPDX-License-Identifier: MIT */

/*
 * Runs a fuzz target without a fuzzing engine, on the files and directories named on the command
 * line: each file, its prefixes of 1, 2, 4, ... bytes, and the empty input. Prints TAP.
 */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static unsigned replayed;

static void replay_file(const char *path)
{
    FILE *file = fopen(path, "rb");
    uint8_t *data;
    long size;

    if (!file || fseek(file, 0, SEEK_END) || (size = ftell(file)) < 0) {
        perror(path);
        exit(EXIT_FAILURE);
    }
    rewind(file);
    data = malloc((size_t)size + 1);
    if (!data || fread(data, 1, (size_t)size, file) != (size_t)size) {
        perror(path);
        exit(EXIT_FAILURE);
    }
    fclose(file);

    for (size_t prefix = 1; prefix < (size_t)size; prefix *= 2)
        LLVMFuzzerTestOneInput(data, prefix);
    LLVMFuzzerTestOneInput(data, (size_t)size);
    free(data);
    printf("ok %u - %s\n", ++replayed, path);
}

static void replay(const char *path)
{
    DIR *directory = opendir(path);
    struct dirent *entry;
    char child[4096];

    if (!directory) {
        replay_file(path);
        return;
    }
    while ((entry = readdir(directory))) {
        if (entry->d_name[0] == '.')
            continue;
        snprintf(child, sizeof(child), "%s/%s", path, entry->d_name);
        replay_file(child);
    }
    closedir(directory);
}

int main(int argc, char **argv)
{
    LLVMFuzzerTestOneInput((const uint8_t *)"", 0);
    for (int i = 1; i < argc; i++)
        replay(argv[i]);
    printf("1..%u\n", replayed);
    return replayed ? EXIT_SUCCESS : EXIT_FAILURE;
}
