/* SPDX-License-Identifier: MIT */
#ifndef DEVICES_VIRTIO_CONSOLE_PORT_H
#define DEVICES_VIRTIO_CONSOLE_PORT_H

#include "devices/virtio/console.h"

/* Inside virtio-console: the bytes of one port, between its two queues and its terminal. */
struct console_port {
    struct virtio_console_port end; /* the host's */
    struct virtio_device *virtio;
    struct console_port *all; /* the device's ports, of which this is one */
    unsigned count;           /* of them */

    bool ready;   /* the guest has set it up */
    bool open;    /* and reads it; means nothing without MULTIPORT */
    bool closed;  /* the host's end of it */
    unsigned due; /* what the guest is to be told: console.c's */

    bool begun;     /* the first request of its queue: popped, maybe before a pause */
    uint64_t taken; /* bytes of that which the terminal took */
    bool sending;   /* `transmit` holds it */
    bool ending;    /* the guest has closed it: what is queued is the last */
    uint64_t sent;  /* bytes the terminal took, of all requests */
    struct virtq_chain transmit;

    unsigned ahead; /* an ordered port waits for so many requests of this one, */
    uint64_t mark;  /* and then for so many bytes of `sent` to be out */
};

/* Which of the device's ports, and the device's number of its receive queue (virtio 1.2, 5.3.2). */
unsigned console_port_number(const struct console_port *port);
unsigned console_port_queue(const struct console_port *port);

/*
 * Takes from the guest what there is and finds room, a bounded piece of it; kicks itself for more.
 * True if it found anything. Ordered ports must have another look when others got on.
 */
bool console_port_transmit(struct console_port *port);

/* Gives the guest what it has buffers for, and returns how much. */
size_t console_port_receive(struct console_port *port, const uint8_t *bytes, size_t count);

/* Before its queues stop: what finds room still goes out, the rest is forgotten. */
void console_port_stop(struct console_port *port);

/* Gives the request that it holds back to the queue, to go on with it where it was. */
void console_port_pause(struct console_port *port);

/* Its fields but those of the control protocol: `ready`, `open` and `due`. */
void console_port_state(struct console_port *port, struct state *s);

/* Forgets what a driver brought about. */
void console_port_forget(struct console_port *port);

/* Is anything in the guest's queue left to go out? Adds to *written what is. */
bool console_port_has_output(const struct console_port *port, uint64_t *written);

#endif
