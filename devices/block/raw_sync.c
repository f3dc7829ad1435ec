/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "devices/block/raw.h"
#include "vmm/core/base.h"

/*
 * One request after the other, with blocking system calls on the thread of the disk's loop. For
 * hosts that forbid io_uring, and for tmpfs. A worker thread would do no more in parallel, and cost
 * two context switches per request.
 */
struct raw_sync {
    struct raw raw;
    struct block_request *submitted, **submitted_end;
};

static void raw_sync_submit(struct block *block, struct block_request *request)
{
    struct raw_sync *s = container_of(block, struct raw_sync, raw.block);

    request->next = NULL;
    *s->submitted_end = request;
    s->submitted_end = &request->next;
}

/* Executes all of them. Each is completed at once, as the next may take long. */
static void raw_sync_commit(struct block *block)
{
    struct raw_sync *s = container_of(block, struct raw_sync, raw.block);

    while (s->submitted) {
        struct block_request *request = s->submitted;
        int error;

        s->submitted = request->next;
        if (!s->submitted)
            s->submitted_end = &s->submitted;
        error = raw_perform(&s->raw, request);
        block->calls++;
        request->done(request, error);
        block->completed(block->owner);
    }
}

/* The deadline is ignored: a blocking call cannot be abandoned. */
static bool raw_sync_drain(struct block *block, uint64_t deadline_ns)
{
    raw_sync_commit(block);
    return true;
}

static void raw_sync_close(struct block *block)
{
    struct raw_sync *s = container_of(block, struct raw_sync, raw.block);

    raw_sync_commit(block);
    close(s->raw.fd);
    free(s);
}

static const struct block_ops raw_sync_ops = {
    .submit = raw_sync_submit,
    .commit = raw_sync_commit,
    .drain = raw_sync_drain,
    .close = raw_sync_close,
    .copy = raw_copy,
    .descriptor = raw_descriptor,
};

int raw_sync_create(struct block **ret, const struct raw *raw)
{
    struct raw_sync *s = calloc(1, sizeof(*s));

    if (!s)
        return -ENOMEM;
    s->raw = *raw;
    s->raw.block.ops = &raw_sync_ops;
    s->submitted_end = &s->submitted;
    *ret = &s->raw.block;
    return 0;
}
