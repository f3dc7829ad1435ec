/* SPDX-License-Identifier: MIT */

/*
 * Copies console port "in" to port "out" until the host closes "in", then closes "out". Then it
 * powers off without waiting; with "stay" on the command line it halts instead.
 */
#include <linux/virtio_console.h>

#include "lib/virtio.h"

enum { CONTROL_RECEIVE = 2, CONTROL_TRANSMIT, QUEUES = 6 };

#define BUFFER 0x10000u /* bytes */

struct message {
    uint32_t port;
    uint16_t event, value;
    char name[56];
};

static struct virtio console;
static struct queue queues[QUEUES];
static struct message control_in[QUEUE_SIZE], control_out;
static unsigned in, out;
static bool named_in, named_out, more;

static struct queue *receive_of(unsigned port)
{
    return &queues[port ? 2 * port + 2 : 0];
}

static struct queue *transmit_of(unsigned port)
{
    return receive_of(port) + 1;
}

static void notify(const struct queue *q)
{
    virtio_notify(&console, (unsigned)(q - queues));
}

static uint8_t *buffer(unsigned index)
{
    return (uint8_t *)(platform_free_ram() + index * BUFFER);
}

static void send_control(uint32_t port, uint16_t event, uint16_t value)
{
    control_out = (struct message){ .port = port, .event = event, .value = value };
    queue_submit(&queues[CONTROL_TRANSMIT],
                 &(struct request){ .out = &control_out, .out_size = 8 });
    notify(&queues[CONTROL_TRANSMIT]);
    queue_wait(&queues[CONTROL_TRANSMIT], 0);
}

static void offer_message(unsigned index)
{
    queue_describe(&queues[CONTROL_RECEIVE], index, &control_in[index], sizeof(control_in[index]),
                   VRING_DESC_F_WRITE, 0);
    queue_offer(&queues[CONTROL_RECEIVE], index);
}

static bool name_is(const struct message *message, uint32_t size, const char *name, uint32_t length)
{
    return size == 8 + length && memcmp(message->name, name, length) == 0;
}

static void handle_control(const struct message *message, uint32_t size)
{
    switch (message->event) {
    case VIRTIO_CONSOLE_PORT_ADD:
        send_control(message->port, VIRTIO_CONSOLE_PORT_READY, 1);
        break;
    case VIRTIO_CONSOLE_PORT_NAME:
        if (name_is(message, size, "in", 2)) {
            in = message->port;
            named_in = true;
        }
        if (name_is(message, size, "out", 3)) {
            out = message->port;
            named_out = true;
        }
        break;
    case VIRTIO_CONSOLE_PORT_OPEN:
        if (!named_in || message->port == in)
            more = message->value;
        break;
    default:
        print("event %u\n", message->event);
        expect(false);
    }
}

/* Handles the next control message, if there is one. */
static void receive_control(void)
{
    struct queue *q = &queues[CONTROL_RECEIVE];
    unsigned index = q->seen % QUEUE_SIZE;

    if (q->used.idx == q->seen)
        return;
    handle_control(&control_in[index], queue_wait(q, index));
    offer_message(index);
    notify(q);
}

static void offer_buffer(unsigned index)
{
    queue_describe(receive_of(in), index, buffer(index), BUFFER, VRING_DESC_F_WRITE, 0);
    queue_offer(receive_of(in), index);
    notify(receive_of(in));
}

/* A buffer is filled by the host, transmitted back, and offered again. */
static void forward(void)
{
    struct queue *from = receive_of(in), *to = transmit_of(out);
    unsigned index = from->seen % QUEUE_SIZE;

    if (from->used.idx != from->seen) {
        queue_describe(to, index, buffer(index), queue_wait(from, index), 0, 0);
        queue_offer(to, index);
        notify(to);
    }
    index = to->seen % QUEUE_SIZE;
    if (to->used.idx != to->seen) {
        queue_wait(to, index);
        offer_buffer(index);
    }
}

int main(void)
{
    console = virtio_find(VIRTIO_ID_CONSOLE, 0);
    virtio_start(&console, ~0ull, queues, QUEUES);
    for (unsigned i = 0; i < QUEUE_SIZE; i++)
        offer_message(i);
    send_control(0, VIRTIO_CONSOLE_DEVICE_READY, 1);
    wait_for((receive_control(), named_in && named_out));

    send_control(in, VIRTIO_CONSOLE_PORT_OPEN, 1);
    send_control(out, VIRTIO_CONSOLE_PORT_OPEN, 1);
    for (unsigned i = 0; i < QUEUE_SIZE; i++)
        offer_buffer(i);
    while (more || receive_of(in)->used.idx != receive_of(in)->seen) {
        receive_control();
        forward();
        platform_relax();
    }

    send_control(out, VIRTIO_CONSOLE_PORT_OPEN, 0);
    if (word_is(0, "stay")) {
        print("closed\n");
        platform_stop();
    }
    platform_power_off();
}
