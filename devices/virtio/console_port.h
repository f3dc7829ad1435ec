/* SPDX-License-Identifier: MIT */
#ifndef DEVICES_VIRTIO_CONSOLE_PORT_H
#define DEVICES_VIRTIO_CONSOLE_PORT_H

#include "devices/virtio/console.h"

/*
 * Private to virtio-console: the data of one port, between its two queues and its terminal. All
 * functions run on the device's loop.
 */
struct console_port {
    struct virtio_console_port options; /* as given to virtio_console_create() */
    struct virtio_device *virtio;
    struct console_port *all; /* all ports of the device, this one included */
    unsigned count;           /* of `all` */

    bool ready;   /* PORT_READY: the driver has set it up */
    bool open;    /* PORT_OPEN from the driver; unused without MULTIPORT */
    bool closed;  /* the host has closed it */
    unsigned due; /* control messages to send, see console.c */

    bool begun;     /* the queue's first request was popped, perhaps before a pause */
    uint64_t taken; /* bytes of that request that the terminal has taken */
    bool sending;   /* that request is in `transmit` */
    bool ending;    /* the driver has closed the port: output ends after what is queued */
    uint64_t sent;  /* bytes of all requests that the terminal has taken */
    struct virtq_chain transmit;

    /* An ordered port waits until this one has pushed `ahead` requests and written `mark` bytes. */
    unsigned ahead;
    uint64_t mark; /* compared with `sent` minus what the terminal still holds */
};

/* The port's number, and the index of its receive queue (virtio 1.2, 5.3.2). */
unsigned console_port_number(const struct console_port *port);
unsigned console_port_queue(const struct console_port *port);

/*
 * Passes a bounded amount of output from the queue to the terminal, and kicks the queue if there is
 * more. True if there was any. The caller retries ordered ports afterwards.
 */
bool console_port_transmit(struct console_port *port);

/* Copies input into the guest's receive buffers; returns how many bytes fitted. */
size_t console_port_receive(struct console_port *port, const uint8_t *bytes, size_t count);

/* Before the queues stop: sends the output the terminal has room for and drops the rest. */
void console_port_stop(struct console_port *port);

/* Rewinds the request in `transmit`; console_port_transmit() continues it after `taken` bytes. */
void console_port_pause(struct console_port *port);

/* Saves or loads all but `ready`, `open` and `due`, which console.c does. */
void console_port_state(struct console_port *port, struct state *s);

/* Resets what the driver has set up. */
void console_port_reset(struct console_port *port);

/* Is output left in the queue? Adds the port's total of bytes taken to *written. */
bool console_port_has_output(const struct console_port *port, uint64_t *written);

#endif
