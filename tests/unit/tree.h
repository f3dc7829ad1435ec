/* SPDX-License-Identifier: MIT */
#ifndef TESTS_UNIT_TREE_H
#define TESTS_UNIT_TREE_H

#include <ftw.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* Temporary directory trees, for tests of code that reads files of the host. */

#define TREE_TEMPLATE "/tmp/minivmm-tree-XXXXXX"

static inline void tree_make(char *directory)
{
    strcpy(directory, TREE_TEMPLATE);
    if (!mkdtemp(directory))
        abort();
}

static inline int tree_remove_one(const char *path, const struct stat *st, int type, struct FTW *at)
{
    return remove(path);
}

static inline void tree_remove(const char *directory)
{
    nftw(directory, tree_remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

/* Creates a file with these contents, and the directories of its path. */
static inline void tree_put(const char *directory, const char *name, const void *bytes, size_t size)
{
    char path[PATH_MAX];
    FILE *file;

    snprintf(path, sizeof(path), "%s/%s", directory, name);
    for (char *end = path + 1; (end = strchr(end, '/')); *end++ = '/') {
        *end = '\0';
        mkdir(path, 0755);
    }
    file = fopen(path, "w");
    if (!file || fwrite(bytes, 1, size, file) != size || fclose(file))
        abort();
}

static inline void tree_put_text(const char *directory, const char *name, const char *text)
{
    tree_put(directory, name, text, strlen(text));
}

#endif
