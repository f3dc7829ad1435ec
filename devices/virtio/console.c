/* SPDX-License-Identifier: MIT */
#include "devices/virtio/console.h"

#include <assert.h>
#include <errno.h>
#include <linux/virtio_console.h>
#include <linux/virtio_ids.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "devices/console/terminal.h"
#include "devices/virtio/console_port.h"
#include "vmm/core/base.h"
#include "vmm/core/clock.h"
#include "vmm/core/endian.h"
#include "vmm/core/log.h"
#include "vmm/core/state.h"

/*
 * The device and its control protocol; console_port.c carries the data. Without MULTIPORT a driver
 * has port 0 only, and no control protocol.
 *
 * Control messages to the driver wait for receive buffers. Each port has one bit per kind of
 * message (`due`), not a list, so a flood of requests from the driver takes no memory.
 */
enum { CONTROL_RECEIVE = 2, CONTROL_TRANSMIT };

#define CONSOLE_BATCH          32   /* control messages handled before the loop polls again */
#define CONSOLE_SIZE_MS        100  /* the least time between announcements of the size */
#define CONSOLE_DRAIN_MS       2000 /* a reset gives up when no output was taken for so long */
#define CONSOLE_DRAIN_CHECK_MS 5    /* between checks for output left */

/* Virtio 1.2, 5.3.4. */
struct console_config {
    le16 columns;
    le16 rows;
    le32 ports;
    le32 emergency_write;
};

static_assert(sizeof(struct console_config) == sizeof(struct virtio_console_config),
              "as Linux has it");

/* Virtio 1.2, 5.3.6.2. */
struct console_message {
    le32 port;
    le16 event;
    le16 value;
};

static_assert(sizeof(struct console_message) == sizeof(struct virtio_console_control),
              "as Linux has it");

struct console_size {
    le16 columns;
    le16 rows;
};

/* Sent in this order: in Linux a port is closed until PORT_OPEN, and visible after PORT_NAME. */
enum { DUE_ADD, DUE_CONSOLE, DUE_SIZE, DUE_OPEN, DUE_NAME };

static const uint16_t console_events[] = {
    [DUE_ADD] = VIRTIO_CONSOLE_PORT_ADD,   [DUE_CONSOLE] = VIRTIO_CONSOLE_CONSOLE_PORT,
    [DUE_SIZE] = VIRTIO_CONSOLE_RESIZE,    [DUE_OPEN] = VIRTIO_CONSOLE_PORT_OPEN,
    [DUE_NAME] = VIRTIO_CONSOLE_PORT_NAME,
};

struct virtio_console {
    struct virtio_device virtio;
    bool has_size;    /* a console's terminal had a size at create(): it is announced */
    bool has_control; /* MULTIPORT was negotiated; used on the loop, unlike virtio.features */
    bool loaded;      /* a state was loaded and not yet resumed: the terminals are new ones */
    uint64_t announced_ms;
    unsigned count;
    struct console_port ports[];
};

static struct virtio_console *console_of(struct virtio_device *v)
{
    return container_of(v, struct virtio_console, virtio);
}

static struct console_size console_size(const struct console_port *port)
{
    struct console_size size = { 0 };
    uint16_t columns, rows;

    if (terminal_size(port->options.terminal, &columns, &rows)) {
        le16_store(&size.columns, columns);
        le16_store(&size.rows, rows);
    }
    return size;
}

/* Control messages to the driver. */

/* Writes one message; false if the guest's buffer is too small. */
static bool console_write_message(const struct console_port *port, unsigned due, struct sg *room)
{
    const struct console_size size = console_size(port);
    struct console_message message;

    le32_store(&message.port, console_port_number(port));
    le16_store(&message.event, console_events[due]);
    le16_store(&message.value, due != DUE_OPEN || !port->closed);
    if (!sg_write(room, &message, sizeof(message)))
        return false;
    if (due == DUE_SIZE)
        return sg_write(room, &size, sizeof(size));
    return due != DUE_NAME || sg_write(room, port->options.name, strlen(port->options.name));
}

static struct console_port *console_next_due(struct virtio_console *console)
{
    for (unsigned i = 0; i < console->count; i++)
        if (console->ports[i].due)
            return &console->ports[i];
    return NULL;
}

/* Sends the messages that are due, as far as there are buffers. */
static void console_send_due(struct virtio_console *console)
{
    struct virtq *q = virtio_virtq(&console->virtio, CONTROL_RECEIVE);
    struct console_port *port;
    struct virtq_chain chain;

    while ((port = console_next_due(console)) && virtq_pop(q, &chain)) {
        unsigned due = (unsigned)__builtin_ctz(port->due);
        size_t room = chain.writable.length;

        if (!console_write_message(port, due, &chain.writable)) {
            virtq_break(q, "buffer too small for a control message");
            return;
        }
        virtq_push(q, &chain, (uint32_t)(room - chain.writable.length));
        port->due &= ~(1u << due);
    }
    virtq_flush(q);
    if (port && !virtq_enable_notification(q))
        virtio_kick(&console->virtio, CONTROL_RECEIVE);
}

static void console_add_due(struct console_port *port, unsigned due)
{
    if (!port->ready)
        return;
    port->due |= 1u << due;
    console_send_due(console_of(port->virtio));
}

/*
 * Linux reads the size only at a configuration change interrupt, and ignores that while it sets up
 * the console, which may print the whole log. So the change is announced again with later output.
 */
static void console_announce_size(struct virtio_console *console)
{
    uint64_t now_ms = clock_now_ms();

    if (!console->has_size || now_ms - console->announced_ms < CONSOLE_SIZE_MS)
        return;
    console->announced_ms = now_ms;
    virtio_config_changed(&console->virtio);
}

/* Output and control messages from the driver. */

static void console_transmit(struct console_port *port)
{
    struct virtio_console *console = console_of(port->virtio);
    bool any = console_port_transmit(port);

    if (any && !console->has_control)
        console_announce_size(console);
    for (unsigned i = 0; i < console->count; i++)
        if (console->ports[i].options.ordered && console->ports[i].sending)
            console_port_transmit(&console->ports[i]);
}

static void console_set_ready(struct console_port *port, bool ready)
{
    bool sized = port->options.console && console_of(port->virtio)->has_size;

    port->ready = ready;
    port->due = 0;
    if (ready)
        port->due = (unsigned)port->options.console << DUE_CONSOLE | (unsigned)sized << DUE_SIZE |
                    1u << DUE_OPEN | (unsigned)!!port->options.name << DUE_NAME;
}

static void console_set_open(struct console_port *port, bool open)
{
    bool closes = port->open && !open;

    port->open = open;
    if (open) {
        terminal_request_input(port->options.terminal);
    } else if (closes && !port->options.console) {
        port->ending = true;
        console_transmit(port);
    }
}

static void console_handle_message(struct virtio_console *console,
                                   const struct console_message *message)
{
    uint32_t number = le32_load(&message->port);
    uint16_t event = le16_load(&message->event);
    bool value = le16_load(&message->value);

    if (event == VIRTIO_CONSOLE_DEVICE_READY) {
        for (unsigned i = 0; i < console->count && value; i++)
            console->ports[i].due |= 1u << DUE_ADD;
    } else if (number >= console->count) {
        log_guest(&console->virtio.warnings,
                  "%s: control message for port %u, which does not exist", console->virtio.name,
                  number);
    } else if (event == VIRTIO_CONSOLE_PORT_READY) {
        console_set_ready(&console->ports[number], value);
    } else if (event == VIRTIO_CONSOLE_PORT_OPEN) {
        console_set_open(&console->ports[number], value);
    }
}

static void console_handle_control(struct virtio_console *console)
{
    struct virtq *q = virtio_virtq(&console->virtio, CONTROL_TRANSMIT);
    struct console_message message;
    struct virtq_chain chain;
    unsigned steps = 0;

    while (steps < CONSOLE_BATCH && virtq_pop(q, &chain)) {
        if (!sg_read(&chain.readable, &message, sizeof(message))) {
            virtq_break(q, "control message too short");
            return;
        }
        virtq_push(q, &chain, 0);
        console_handle_message(console, &message);
        steps++;
    }
    virtq_flush(q);
    if (steps == CONSOLE_BATCH || !virtq_enable_notification(q))
        virtio_kick(&console->virtio, CONTROL_TRANSMIT);
    console_send_due(console);
}

/* Calls from the terminals. */

/* Linux discards input of a port that is not open. Without MULTIPORT only port 0 exists. */
static size_t console_input(void *owner, const uint8_t *bytes, size_t count)
{
    struct console_port *port = owner;

    if (console_of(port->virtio)->has_control ? !port->open : console_port_number(port) > 0)
        return 0;
    return console_port_receive(port, bytes, count);
}

static void console_writable(void *owner)
{
    console_transmit(owner);
}

static void console_resized(void *owner)
{
    struct console_port *port = owner;
    struct virtio_console *console = console_of(port->virtio);

    if (!console->has_size || !port->options.console)
        return;
    if (console->has_control)
        console_add_due(port, DUE_SIZE);
    else
        virtio_config_changed(&console->virtio);
}

static void console_closed(void *owner)
{
    struct console_port *port = owner;

    if (port->options.console)
        return;
    port->closed = true;
    console_add_due(port, DUE_OPEN);
}

/* The device. */

/*
 * F_SIZE is offered even without a terminal, as size 0 x 0 (unknown), so that a machine saved on a
 * terminal can be restored where there is none.
 */
static uint64_t console_features(const struct virtio_device *v)
{
    return BIT(VIRTIO_CONSOLE_F_EMERG_WRITE) | BIT(VIRTIO_CONSOLE_F_SIZE) |
           (v->queue_count > CONTROL_RECEIVE ? BIT(VIRTIO_CONSOLE_F_MULTIPORT) : 0);
}

static void console_read_config(struct virtio_device *v, void *config)
{
    struct virtio_console *console = console_of(v);
    const struct console_size size = console_size(&console->ports[0]);
    struct console_config fields = { .columns = size.columns, .rows = size.rows };

    if (console->virtio.queue_count > CONTROL_RECEIVE)
        le32_store(&fields.ports, console->count);
    memcpy(config, &fields, sizeof(fields));
}

/* emerg_wr: output, a character at a time, of a guest that cannot use its queues. */
static void console_write_config(struct virtio_device *v, unsigned offset, unsigned size,
                                 uint64_t value)
{
    uint8_t byte = (uint8_t)value;

    if (offset == offsetof(struct console_config, emergency_write))
        terminal_try_write(console_of(v)->ports[0].options.terminal, &byte, 1);
}

static void console_kick(struct virtio_device *v, unsigned queue)
{
    struct virtio_console *console = console_of(v);
    struct console_port *port = &console->ports[queue < CONTROL_RECEIVE ? 0 : queue / 2 - 1];

    if (queue >= CONTROL_RECEIVE && !console->has_control)
        return;
    if (queue == CONTROL_RECEIVE)
        console_send_due(console);
    else if (queue == CONTROL_TRANSMIT)
        console_handle_control(console);
    else if (queue % 2)
        console_transmit(port);
    else
        terminal_request_input(port->options.terminal);
}

static void console_start(struct virtio_device *v)
{
    console_of(v)->has_control = virtio_has_feature(v, VIRTIO_CONSOLE_F_MULTIPORT);
}

struct console_progress {
    struct virtio_console *console;
    bool output_left;
    uint64_t written; /* bytes the terminals have taken in all */
};

static void console_send_output(void *arg)
{
    struct console_progress *progress = arg;
    struct virtio_console *console = progress->console;

    progress->output_left = false;
    progress->written = 0;
    for (unsigned i = 0; i < (console->has_control ? console->count : 1); i++) {
        console_transmit(&console->ports[i]);
        if (console_port_has_output(&console->ports[i], &progress->written))
            progress->output_left = true;
    }
}

/* To Linux a write is done once it is in the queue, and at power-off it resets the device. */
static void console_drain(struct virtio_device *v)
{
    struct console_progress progress = { .console = console_of(v) };
    unsigned idle_ms = 0;

    loop_call(v->loop, console_send_output, &progress);
    while (progress.output_left && idle_ms < CONSOLE_DRAIN_MS) {
        uint64_t before = progress.written;

        poll(NULL, 0, CONSOLE_DRAIN_CHECK_MS);
        loop_call(v->loop, console_send_output, &progress);
        idle_ms = progress.written == before ? idle_ms + CONSOLE_DRAIN_CHECK_MS : 0;
    }
}

static void console_stop(struct virtio_device *v)
{
    struct virtio_console *console = console_of(v);

    for (unsigned i = 0; i < console->count; i++)
        console_port_stop(&console->ports[i]);
    console->has_control = false;
}

static bool console_pause(struct virtio_device *v, uint64_t deadline_ns)
{
    struct virtio_console *console = console_of(v);

    for (unsigned i = 0; i < console->count; i++)
        console_port_pause(&console->ports[i]);
    return true;
}

/* After a load the driver knows the old host's terminals: announces the new ones. */
static void console_resume(struct virtio_device *v)
{
    struct virtio_console *console = console_of(v);

    for (unsigned i = 0; console->loaded && i < console->count; i++) {
        console_add_due(&console->ports[i], DUE_OPEN);
        console_resized(&console->ports[i]);
    }
    console->loaded = false;
}

static void console_check_port(const struct console_port *port, struct state *s)
{
    const unsigned known = 1u << DUE_ADD | 1u << DUE_CONSOLE | 1u << DUE_SIZE | 1u << DUE_OPEN |
                           (unsigned)!!port->options.name << DUE_NAME;

    if (port->due & ~known)
        state_fail(s, "due: %#x has unknown messages", port->due);
    if ((port->ready || port->open || port->due) && !console_of(port->virtio)->has_control)
        state_fail(s, "port %u without MULTIPORT", console_port_number(port));
}

static void console_state(struct virtio_device *v, struct state *s)
{
    struct virtio_console *console = console_of(v);

    if (s->loading)
        console->has_control = virtio_status(v) & VIRTIO_CONFIG_S_DRIVER_OK &&
                               v->queue_count > CONTROL_RECEIVE &&
                               virtio_has_feature(v, VIRTIO_CONSOLE_F_MULTIPORT);
    console->loaded |= s->loading;
    for (unsigned i = 0; i < console->count; i++) {
        struct console_port *port = &console->ports[i];

        state_field(s, port, ready);
        state_field(s, port, open);
        state_field(s, port, due);
        console_port_state(port, s);
        console_check_port(port, s);
        if (s->loading && s->error)
            console_port_reset(port);
    }
}

static void console_destroy(struct virtio_device *v)
{
    struct virtio_console *console = console_of(v);

    for (unsigned i = 0; i < console->count; i++)
        terminal_set_client(console->ports[i].options.terminal, NULL);
    free(console);
}

static const struct virtio_ops console_ops = {
    .type = VIRTIO_ID_CONSOLE,
    .queue_size = 64,
    .config_size = sizeof(struct console_config),
    .features = console_features,
    .read_config = console_read_config,
    .write_config = console_write_config,
    .start = console_start,
    .drain = console_drain,
    .stop = console_stop,
    .pause = console_pause,
    .resume = console_resume,
    .kick = console_kick,
    .destroy = console_destroy,
};

static_assert(2 * VIRTIO_CONSOLE_PORTS + 2 <= VIRTIO_MAX_QUEUES, "a pair each, and control");

static void console_add_port(struct virtio_console *console,
                             const struct virtio_console_port *options)
{
    struct console_port *port = &console->ports[console->count++];
    uint16_t columns, rows;

    port->options = *options;
    port->virtio = &console->virtio;
    port->all = console->ports;
    if (options->console && terminal_size(options->terminal, &columns, &rows))
        console->has_size = true;
    terminal_set_client(options->terminal, &(struct terminal_client){ .input = console_input,
                                                                      .writable = console_writable,
                                                                      .resized = console_resized,
                                                                      .closed = console_closed,
                                                                      .owner = port });
}

int virtio_console_create(struct virtio_device **ret, const char *name,
                          const struct virtio_console_port *ports, unsigned count,
                          const struct guest_memory *mem, struct loop *loop)
{
    struct virtio_console *console =
        calloc(1, sizeof(*console) + count * sizeof(console->ports[0]));
    unsigned queues = count == 1 && !ports->name ? 2 : 2 * count + 2;
    int error;

    assert(count > 0 && count <= VIRTIO_CONSOLE_PORTS);
    if (!console)
        return -ENOMEM;
    error = virtio_init(&console->virtio, &console_ops, console_state, queues, name, mem, loop);
    if (error < 0) {
        free(console);
        return error;
    }

    for (unsigned i = 0; i < count; i++) {
        console->ports[i].count = count;
        console_add_port(console, &ports[i]);
    }
    *ret = &console->virtio;
    return 0;
}
