/* SPDX-License-Identifier: MIT */
#ifndef FIRMWARE_INIT_JOB_READ_H
#define FIRMWARE_INIT_JOB_READ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The job as the agent uses it. All strings point into the file's bytes. */
enum job_list {
    JOB_MODULE,
    JOB_SHARE,
    JOB_NODE,
    JOB_RUN,
    JOB_CONTENT,
    JOB_GROUP,
    JOB_ENV,
    JOB_ARG,
    JOB_LISTS
};

struct job {
    const char **lists[JOB_LISTS];  /* each ends with NULL */
    const char *hostname, *network; /* NULL: not in the job, as all that follow but streams */
    const char *ipv6;
    const char *warm, *seed, *freeze, *hook;
    const char *tty, *winsize;
    const char *streams[3]; /* default "null" */
    const char *cwd;
    uint32_t uid, gid;
};

/* Bytes of scratch space that job_read() needs. */
size_t job_scratch_size(const char *bytes, size_t size);

/*
 * Parses `size` bytes, the last of which is a NUL. `scratch` has job_scratch_size() zeroed bytes;
 * `bytes` and `scratch` must live as long as the job. Returns the first string with an unknown key,
 * or NULL.
 */
const char *job_read(struct job *ret, const char *bytes, size_t size, void *scratch);

#endif
