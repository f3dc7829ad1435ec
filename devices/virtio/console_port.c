/* SPDX-License-Identifier: MIT */
#include "devices/virtio/console_port.h"

#include "devices/console/terminal.h"
#include "vmm/core/base.h"
#include "vmm/core/state.h"

enum { RECEIVE, TRANSMIT };

/* The most that one call does before it yields to other ports and devices of the loop. */
#define PORT_STEPS 32          /* requests, or pieces of them */
#define PORT_BYTES (128 * KIB) /* sent */

unsigned console_port_number(const struct console_port *port)
{
    return (unsigned)(port - port->all);
}

unsigned console_port_queue(const struct console_port *port)
{
    unsigned number = console_port_number(port);

    return number ? 2 * number + 2 : 0; /* queues 2 and 3 are the control protocol's */
}

static struct virtq *console_port_virtq(const struct console_port *port, unsigned which)
{
    return virtio_virtq(port->virtio, console_port_queue(port) + which);
}

/* An ordered port waits for all output that the others have queued when its request is popped. */
static void console_port_mark_others(const struct console_port *port)
{
    for (struct console_port *other = port->all; other < port->all + port->count; other++) {
        other->ahead = virtq_waiting(console_port_virtq(other, TRANSMIT)) + other->sending;
        other->mark = other->sent;
    }
}

static bool console_port_passed_mark(const struct console_port *port)
{
    return (port->ahead == 0 || !virtq_started(console_port_virtq(port, TRANSMIT))) &&
           port->sent >= port->mark + terminal_queued(port->options.terminal);
}

static bool console_port_may_send(const struct console_port *port)
{
    if (port->options.ordered)
        for (const struct console_port *other = port->all; other < port->all + port->count; other++)
            if (!other->options.ordered && !console_port_passed_mark(other))
                return false;
    return true;
}

/* The guest may have shortened a request that was rewound. */
static void console_port_skip_taken(struct console_port *port)
{
    struct sg *rest = &port->transmit.readable;

    sg_skip(rest, port->taken < rest->length ? (size_t)port->taken : rest->length);
}

static bool console_port_pop(struct console_port *port, struct virtq *q)
{
    if (port->sending)
        return true;
    port->sending = virtq_pop(q, &port->transmit);
    if (port->sending && port->begun)
        console_port_skip_taken(port);
    else if (port->sending && port->options.ordered)
        console_port_mark_others(port);
    port->begun |= port->sending;
    return port->sending;
}

/* Writes one piece, without a copy. False if the terminal did not take all of it. */
static bool console_port_send(struct console_port *port, size_t *budget)
{
    struct sg *rest = &port->transmit.readable;
    struct iovec front;
    size_t size, taken;

    if (rest->length == 0)
        return true;
    front = sg_front(rest);
    size = front.iov_len < *budget ? front.iov_len : *budget;
    taken = terminal_try_write(port->options.terminal, front.iov_base, size);
    sg_skip(rest, taken);
    port->sent += taken;
    port->taken += taken;
    *budget -= taken;
    return taken == size;
}

static void console_port_push(struct console_port *port, struct virtq *q)
{
    virtq_push(q, &port->transmit, 0);
    port->sending = port->begun = false;
    port->taken = 0;
    if (port->ahead > 0 && --port->ahead == 0)
        port->mark = port->sent;
}

/* `ending` stays set: the output of a restored port must end, too. */
static void console_port_end_output(struct console_port *port)
{
    if (port->ending)
        terminal_end_output(port->options.terminal);
}

bool console_port_transmit(struct console_port *port)
{
    struct virtq *q = console_port_virtq(port, TRANSMIT);
    size_t budget = PORT_BYTES;
    unsigned steps = 0;
    bool room = true;

    if (port->virtio->paused)
        return false;
    while (room && steps < PORT_STEPS && budget > 0 && console_port_pop(port, q)) {
        room = console_port_may_send(port) && console_port_send(port, &budget);
        if (room && port->transmit.readable.length == 0)
            console_port_push(port, q);
        steps++;
    }
    virtq_flush(q);

    if (room && (steps == PORT_STEPS || budget == 0 || !virtq_enable_notification(q)))
        virtio_kick(port->virtio, console_port_queue(port) + TRANSMIT); /* continue later */
    else if (room)
        console_port_end_output(port);
    return steps > 0;
}

size_t console_port_receive(struct console_port *port, const uint8_t *bytes, size_t count)
{
    struct virtq *q = console_port_virtq(port, RECEIVE);
    UNINITIALIZED struct virtq_chain chain;
    size_t taken = 0;
    unsigned steps = 0;

    while (taken < count && steps < PORT_STEPS && virtq_pop(q, &chain)) {
        size_t room = chain.writable.length;
        size_t size = room < count - taken ? room : count - taken;

        sg_write(&chain.writable, bytes + taken, size);
        virtq_push(q, &chain, (uint32_t)size);
        taken += size;
        steps++;
    }
    virtq_flush(q);
    if (taken < count && (steps == PORT_STEPS || !virtq_enable_notification(q)))
        virtio_kick(port->virtio, console_port_queue(port) + RECEIVE); /* continue later */
    return taken;
}

void console_port_reset(struct console_port *port)
{
    port->ending = false;
    port->ready = port->open = port->sending = port->begun = false;
    port->due = port->ahead = 0;
    port->taken = 0;
}

void console_port_stop(struct console_port *port)
{
    console_port_transmit(port);
    console_port_end_output(port);
    console_port_reset(port);
}

void console_port_pause(struct console_port *port)
{
    if (port->sending)
        virtq_rewind(console_port_virtq(port, TRANSMIT), 1);
    port->sending = false;
}

/* `mark` is not saved: it counts bytes in the terminal, and the new host's holds none. */
void console_port_state(struct console_port *port, struct state *s)
{
    state_field(s, port, begun);
    state_field(s, port, taken);
    state_field(s, port, ending);
    state_field(s, port, ahead);
    if (port->ending && port->options.console)
        state_fail(s, "ending: a console port is never closed");
    if (port->ahead > VIRTQ_MAX_SIZE + 1)
        state_fail(s, "ahead: %u requests", port->ahead);
}

bool console_port_has_output(const struct console_port *port, uint64_t *written)
{
    *written += port->sent;
    return port->sending || virtq_waiting(console_port_virtq(port, TRANSMIT)) > 0;
}
