/* SPDX-License-Identifier: MIT */
#include "vmm/core/sg.h"

#include <string.h>

#include "vmm/core/base.h"

struct iovec sg_front(struct sg *sg)
{
    size_t run;

    while (sg->skip >= sg->iov->iov_len) { /* skip consumed pieces */
        sg->skip -= sg->iov->iov_len;
        sg->iov++;
    }
    run = sg->iov->iov_len - sg->skip;
    if (run > sg->length)
        run = sg->length;
    return (struct iovec){ (char *)sg->iov->iov_base + sg->skip, run };
}

/* Consumes a contiguous run at the front, at most `max` > 0 bytes. */
static struct iovec sg_take(struct sg *sg, size_t max)
{
    struct iovec front = sg_front(sg);

    if (front.iov_len > max)
        front.iov_len = max;
    sg->skip += front.iov_len;
    sg->length -= front.iov_len;
    return front;
}

bool sg_read(struct sg *sg, void *dst, size_t len)
{
    if (len > sg->length)
        return false;

    for (size_t done = 0; done < len;) {
        struct iovec piece = sg_take(sg, len - done);

        memcpy((char *)dst + done, piece.iov_base, piece.iov_len);
        done += piece.iov_len;
    }
    return true;
}

bool sg_write(struct sg *sg, const void *src, size_t len)
{
    if (len > sg->length)
        return false;

    for (size_t done = 0; done < len;) {
        struct iovec piece = sg_take(sg, len - done);

        memcpy(piece.iov_base, (const char *)src + done, piece.iov_len);
        done += piece.iov_len;
    }
    return true;
}

bool sg_zero(struct sg *sg, size_t len)
{
    if (len > sg->length)
        return false;

    while (len > 0) {
        struct iovec piece = sg_take(sg, len);

        memset(piece.iov_base, 0, piece.iov_len);
        len -= piece.iov_len;
    }
    return true;
}

bool sg_skip(struct sg *sg, size_t len)
{
    if (len > sg->length)
        return false;

    sg->skip += len;
    sg->length -= len;
    return true;
}

void *sg_take_last_byte(struct sg *sg)
{
    struct sg last = *sg;

    if (sg->length == 0)
        return NULL;

    sg->length--;
    last.skip += sg->length;
    last.length = 1;
    return sg_take(&last, 1).iov_base;
}

unsigned sg_trim(struct sg *sg)
{
    struct sg rest = *sg;
    struct iovec *first = NULL;
    unsigned count = 0;

    while (rest.length > 0) {
        struct iovec piece = sg_take(&rest, rest.length);

        if (!first)
            first = rest.iov;
        *rest.iov = piece;
        rest.skip = piece.iov_len;
        count = (unsigned)(rest.iov - first) + 1;
    }

    if (first)
        sg->iov = first;
    sg->skip = 0;
    return count;
}
