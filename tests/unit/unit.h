/* SPDX-License-Identifier: MIT */
#ifndef TESTS_UNIT_UNIT_H
#define TESTS_UNIT_UNIT_H

#include <check.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define UNIT_SKIP ": SKIP "

/* Ends a test that cannot run on this host; it is reported as skipped. */
#define unit_skip(reason) ck_abort_msg("SKIP %s", reason)

/* The report of a program that cannot run on this host. Returns main()'s exit status. */
static inline int unit_skip_all(const char *reason)
{
    printf("1..0 # SKIP %s\n", reason);
    return EXIT_SUCCESS;
}

/* Prints one line of libcheck's TAP, in which unit_skip() is a failure. True if the test failed. */
static inline bool unit_print(const char *line)
{
    static const char failed[] = "not ok ";
    const char *reason = strstr(line, UNIT_SKIP);

    if (strncmp(line, failed, strlen(failed)) != 0 || !reason) {
        fputs(line, stdout);
        return strncmp(line, failed, strlen(failed)) == 0;
    }
    line += strlen("not ");
    printf("%.*s # SKIP %s", (int)(reason - line), line, reason + strlen(UNIT_SKIP));
    return false;
}

/*
 * Runs a suite, under the usual umask, and reports it as TAP on stdout. Returns main()'s exit
 * status.
 */
static inline int unit_run(Suite *suite)
{
    SRunner *runner = srunner_create(suite);
    int fd = memfd_create("tap", MFD_CLOEXEC);
    FILE *tap = fdopen(fd, "r");
    char path[32], *line = NULL;
    unsigned failed = 0;
    size_t room = 0;

    umask(022);
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    srunner_set_tap(runner, path);
    srunner_run_all(runner, CK_SILENT);
    srunner_free(runner);
    while (tap && getline(&line, &room, tap) > 0)
        failed += unit_print(line);
    free(line);
    if (tap)
        fclose(tap);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

#endif
