/* SPDX-License-Identifier: MIT */

/*
 *     reads FILE COUNT
 *
 * Reads COUNT pages of a file in a shuffled order, none of them twice, without read-ahead.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define PAGE  4096
#define PRIME 7919 /* visits every page once, unless the file has a multiple of as many */

int main(int argc, char **argv)
{
    static char page[PAGE];
    struct stat status;
    long count, pages;
    int file;

    if (argc != 3)
        return 2;
    count = strtol(argv[2], NULL, 10);
    file = open(argv[1], O_RDONLY | O_CLOEXEC);
    if (file < 0 || fstat(file, &status) < 0 || posix_fadvise(file, 0, 0, POSIX_FADV_RANDOM) != 0) {
        perror(argv[1]);
        return 1;
    }
    pages = status.st_size / PAGE;
    for (long i = 0; i < count && i < pages; i++)
        if (pread(file, page, PAGE, i * PRIME % pages * PAGE) != PAGE) {
            perror("read");
            return 1;
        }
    return 0;
}
