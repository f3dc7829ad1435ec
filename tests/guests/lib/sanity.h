/* SPDX-License-Identifier: MIT */
#ifndef GUESTS_LIB_SANITY_H
#define GUESTS_LIB_SANITY_H

#include "lib/virtio.h"

/*
 * A valid request to each kind of device, whose answer shows that the device works. It can be
 * repeated any number of times.
 */
#define MAX_QUEUES 5

struct sanity {
    const char *name; /* on the command line */
    uint32_t id;      /* VIRTIO_ID_* */
    unsigned queues;
    unsigned queue; /* index of the queue for the request */
    struct request request;
    uint32_t written; /* length of the answer in bytes */
};

/* The device that the first word of the command line names. */
const struct sanity *sanity_device(void);

/* Submits the request; waits for the answer and checks its length; both. */
void sanity_submit(const struct sanity *device, const struct virtio *v, struct queue *q);
void sanity_wait(const struct sanity *device, struct queue *q);
void sanity_check(const struct sanity *device, const struct virtio *v, struct queue *q);

#endif
