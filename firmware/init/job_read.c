/* SPDX-License-Identifier: MIT */
#include "firmware/init/job_read.h"

#include <string.h>

#include "firmware/init/text.h"
#include "vmm/core/base.h"

enum job_value { JOB_VALUE_STRING, JOB_VALUE_NUMBER, JOB_VALUE_LIST };

/* The type of each key's value, and its list or its offset in struct job. */
static const struct {
    const char *key;
    enum job_value kind;
    size_t at;
} job_keys[] = {
    { "module=", JOB_VALUE_LIST, JOB_MODULE },
    { "share=", JOB_VALUE_LIST, JOB_SHARE },
    { "node=", JOB_VALUE_LIST, JOB_NODE },
    { "run=", JOB_VALUE_LIST, JOB_RUN },
    { "file=", JOB_VALUE_LIST, JOB_CONTENT },
    { "group=", JOB_VALUE_LIST, JOB_GROUP },
    { "env=", JOB_VALUE_LIST, JOB_ENV },
    { "arg=", JOB_VALUE_LIST, JOB_ARG },
    { "hostname=", JOB_VALUE_STRING, offsetof(struct job, hostname) },
    { "network=", JOB_VALUE_STRING, offsetof(struct job, network) },
    { "ipv6=", JOB_VALUE_STRING, offsetof(struct job, ipv6) },
    { "warm=", JOB_VALUE_STRING, offsetof(struct job, warm) },
    { "seed=", JOB_VALUE_STRING, offsetof(struct job, seed) },
    { "freeze=", JOB_VALUE_STRING, offsetof(struct job, freeze) },
    { "hook=", JOB_VALUE_STRING, offsetof(struct job, hook) },
    { "tty=", JOB_VALUE_STRING, offsetof(struct job, tty) },
    { "winsize=", JOB_VALUE_STRING, offsetof(struct job, winsize) },
    { "stdin=", JOB_VALUE_STRING, offsetof(struct job, streams[0]) },
    { "stdout=", JOB_VALUE_STRING, offsetof(struct job, streams[1]) },
    { "stderr=", JOB_VALUE_STRING, offsetof(struct job, streams[2]) },
    { "cwd=", JOB_VALUE_STRING, offsetof(struct job, cwd) },
    { "uid=", JOB_VALUE_NUMBER, offsetof(struct job, uid) },
    { "gid=", JOB_VALUE_NUMBER, offsetof(struct job, gid) },
};

static size_t job_count_strings(const char *bytes, size_t size)
{
    size_t count = 0;

    for (size_t i = 0; i < size; i++)
        count += bytes[i] == '\0';
    return count;
}

size_t job_scratch_size(const char *bytes, size_t size)
{
    return (job_count_strings(bytes, size) + 1) * JOB_LISTS * sizeof(char *);
}

static bool job_set(struct job *job, size_t counts[JOB_LISTS], const char *string)
{
    for (unsigned i = 0; i < ARRAY_SIZE(job_keys); i++) {
        const char *value = text_after(string, job_keys[i].key);
        size_t at = job_keys[i].at;

        if (!value)
            continue;
        if (job_keys[i].kind == JOB_VALUE_LIST)
            job->lists[at][counts[at]++] = value;
        else if (job_keys[i].kind == JOB_VALUE_NUMBER)
            *(uint32_t *)((char *)job + at) = (uint32_t)text_number(value);
        else
            *(const char **)((char *)job + at) = value;
        return true;
    }
    return false;
}

const char *job_read(struct job *ret, const char *bytes, size_t size, void *scratch)
{
    size_t counts[JOB_LISTS] = { 0 }, length = job_count_strings(bytes, size) + 1;

    *ret = (struct job){ .streams = { "null", "null", "null" } };
    for (unsigned i = 0; i < JOB_LISTS; i++)
        ret->lists[i] = (const char **)scratch + i * length;
    for (const char *string = bytes; string < bytes + size; string += strlen(string) + 1)
        if (!job_set(ret, counts, string))
            return string;
    return NULL;
}
