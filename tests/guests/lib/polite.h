/* SPDX-License-Identifier: MIT */
#ifndef GUESTS_LIB_POLITE_H
#define GUESTS_LIB_POLITE_H

#include "lib/virtio.h"

/*
 * A request that an honest driver would make of each kind of device, and by whose answer a payload
 * sees that the device is well. It can be made any number of times.
 */
#define MAX_QUEUES 2

struct polite {
    const char *name; /* on the command line */
    uint32_t id;      /* VIRTIO_ID_* */
    unsigned queues;
    unsigned queue; /* the one the request goes to */
    struct request request;
    uint32_t written; /* bytes of the answer */
};

/* The device the first word of the command line names. */
const struct polite *polite_device(void);

/* Makes the request and checks the answer. */
void polite_submit(const struct polite *device, const struct virtio *v, struct queue *q);
void polite_wait(const struct polite *device, struct queue *q);
void polite_use(const struct polite *device, const struct virtio *v, struct queue *q);

#endif
