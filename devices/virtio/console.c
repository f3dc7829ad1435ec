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
 * The device and its control protocol; the bytes are console_port.c's. A driver that does not want
 * MULTIPORT finds port 0 alone, and no control protocol.
 *
 * What the guest is to be told waits until there is a buffer for it: as a bit for each message that
 * is due, not as a list, so no flood of questions makes it grow.
 */
enum { CONTROL_RECEIVE = 2, CONTROL_TRANSMIT };

#define CONSOLE_STEPS     32   /* messages heard before others have their turn on the loop */
#define CONSOLE_SIZE_MS   100  /* how often the size is announced at most, see below */
#define CONSOLE_LINGER_MS 2000 /* how long a reset waits for a reader who takes nothing */
#define CONSOLE_LOOK_MS   5    /* between two looks at what is left */

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

/* In this order: Linux takes a port as closed until it hears otherwise, and finds it by its name.
 */
enum { DUE_ADD, DUE_CONSOLE, DUE_SIZE, DUE_OPEN, DUE_NAME };

static const uint16_t console_events[] = {
    [DUE_ADD] = VIRTIO_CONSOLE_PORT_ADD,   [DUE_CONSOLE] = VIRTIO_CONSOLE_CONSOLE_PORT,
    [DUE_SIZE] = VIRTIO_CONSOLE_RESIZE,    [DUE_OPEN] = VIRTIO_CONSOLE_PORT_OPEN,
    [DUE_NAME] = VIRTIO_CONSOLE_PORT_NAME,
};

struct virtio_console {
    struct virtio_device virtio;
    bool has_size;    /* a console's terminal had one when this was created: it is told */
    bool has_control; /* MULTIPORT was negotiated; the loop's, unlike virtio.features */
    bool loaded;      /* and not yet resumed: the host's ends are other ones than before */
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

    if (terminal_size(port->end.terminal, &columns, &rows)) {
        le16_store(&size.columns, columns);
        le16_store(&size.rows, rows);
    }
    return size;
}

/* What the guest is told. */

/* Writes one message; false if the guest's buffer is too small for it. */
static bool console_write(const struct console_port *port, unsigned due, struct sg *room)
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
    return due != DUE_NAME || sg_write(room, port->end.name, strlen(port->end.name));
}

static struct console_port *console_next_due(struct virtio_console *console)
{
    for (unsigned i = 0; i < console->count; i++)
        if (console->ports[i].due)
            return &console->ports[i];
    return NULL;
}

/* Tells what is due, as far as there are buffers for it. */
static void console_tell(struct virtio_console *console)
{
    struct virtq *q = virtio_virtq(&console->virtio, CONTROL_RECEIVE);
    struct console_port *port;
    struct virtq_chain chain;

    while ((port = console_next_due(console)) && virtq_pop(q, &chain)) {
        unsigned due = (unsigned)__builtin_ctz(port->due);
        size_t room = chain.writable.length;

        if (!console_write(port, due, &chain.writable)) {
            virtq_break(q, "no room for a control message");
            return;
        }
        virtq_push(q, &chain, (uint32_t)(room - chain.writable.length));
        port->due &= ~(1u << due);
    }
    virtq_flush(q);
    if (port && !virtq_enable_notification(q))
        virtio_kick(&console->virtio, CONTROL_RECEIVE);
}

static void console_is_due(struct console_port *port, unsigned due)
{
    if (!port->ready)
        return;
    port->due |= 1u << due;
    console_tell(console_of(port->virtio));
}

/*
 * Linux looks at the size only when it is told of a change, and drops it while it is still setting
 * up the console, which may print the whole log. So output repeats the news now and then.
 */
static void console_announce_size(struct virtio_console *console)
{
    uint64_t now_ms = clock_now_ms();

    if (!console->has_size || now_ms - console->announced_ms < CONSOLE_SIZE_MS)
        return;
    console->announced_ms = now_ms;
    virtio_config_changed(&console->virtio);
}

/* What the guest says. */

static void console_transmit(struct console_port *port)
{
    struct virtio_console *console = console_of(port->virtio);
    bool any = console_port_transmit(port);

    if (any && !console->has_control)
        console_announce_size(console);
    for (unsigned i = 0; i < console->count; i++)
        if (console->ports[i].end.ordered && console->ports[i].sending)
            console_port_transmit(&console->ports[i]);
}

static void console_set_ready(struct console_port *port, bool ready)
{
    bool sized = port->end.console && console_of(port->virtio)->has_size;

    port->ready = ready;
    port->due = 0;
    if (ready)
        port->due = (unsigned)port->end.console << DUE_CONSOLE | (unsigned)sized << DUE_SIZE |
                    1u << DUE_OPEN | (unsigned)!!port->end.name << DUE_NAME;
}

static void console_set_open(struct console_port *port, bool open)
{
    bool closes = port->open && !open;

    port->open = open;
    if (open) {
        terminal_request_input(port->end.terminal);
    } else if (closes && !port->end.console) {
        port->ending = true;
        console_transmit(port);
    }
}

static void console_hear_one(struct virtio_console *console, const struct console_message *message)
{
    uint32_t number = le32_load(&message->port);
    uint16_t event = le16_load(&message->event);
    bool value = le16_load(&message->value);

    if (event == VIRTIO_CONSOLE_DEVICE_READY) {
        for (unsigned i = 0; i < console->count && value; i++)
            console->ports[i].due |= 1u << DUE_ADD;
    } else if (number >= console->count) {
        log_guest(&console->virtio.warnings, "%s: there is no port %u", console->virtio.name,
                  number);
    } else if (event == VIRTIO_CONSOLE_PORT_READY) {
        console_set_ready(&console->ports[number], value);
    } else if (event == VIRTIO_CONSOLE_PORT_OPEN) {
        console_set_open(&console->ports[number], value);
    }
}

static void console_hear(struct virtio_console *console)
{
    struct virtq *q = virtio_virtq(&console->virtio, CONTROL_TRANSMIT);
    struct console_message message;
    struct virtq_chain chain;
    unsigned steps = 0;

    while (steps < CONSOLE_STEPS && virtq_pop(q, &chain)) {
        if (!sg_read(&chain.readable, &message, sizeof(message))) {
            virtq_break(q, "a control message too short");
            return;
        }
        virtq_push(q, &chain, 0);
        console_hear_one(console, &message);
        steps++;
    }
    virtq_flush(q);
    if (steps == CONSOLE_STEPS || !virtq_enable_notification(q))
        virtio_kick(&console->virtio, CONTROL_TRANSMIT);
    console_tell(console);
}

/* The terminals' calls. */

/* Linux throws away what comes for a port that nobody has opened; without control there is one. */
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

    if (!console->has_size || !port->end.console)
        return;
    if (console->has_control)
        console_is_due(port, DUE_SIZE);
    else
        virtio_config_changed(&console->virtio);
}

static void console_closed(void *owner)
{
    struct console_port *port = owner;

    if (port->end.console)
        return;
    port->closed = true;
    console_is_due(port, DUE_OPEN);
}

/* The device. */

/*
 * F_SIZE is offered without a terminal, too, and the size is 0 x 0, unknown to the guest as to us:
 * a machine saved on a terminal can be restored where there is none.
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

/* A guest that cannot use its queues, or not yet, writes characters here one by one. */
static void console_write_config(struct virtio_device *v, unsigned offset, unsigned size,
                                 uint64_t value)
{
    uint8_t byte = (uint8_t)value;

    if (offset == offsetof(struct console_config, emergency_write))
        terminal_try_write(console_of(v)->ports[0].end.terminal, &byte, 1);
}

static void console_kick(struct virtio_device *v, unsigned queue)
{
    struct virtio_console *console = console_of(v);
    struct console_port *port = &console->ports[queue < CONTROL_RECEIVE ? 0 : queue / 2 - 1];

    if (queue >= CONTROL_RECEIVE && !console->has_control)
        return;
    if (queue == CONTROL_RECEIVE)
        console_tell(console);
    else if (queue == CONTROL_TRANSMIT)
        console_hear(console);
    else if (queue % 2)
        console_transmit(port);
    else
        terminal_request_input(port->end.terminal);
}

static void console_start(struct virtio_device *v)
{
    console_of(v)->has_control = virtio_has_feature(v, VIRTIO_CONSOLE_F_MULTIPORT);
}

struct console_look {
    struct virtio_console *console;
    bool rest;
    uint64_t written;
};

static void console_look(void *arg)
{
    struct console_look *look = arg;
    struct virtio_console *console = look->console;

    look->rest = false;
    look->written = 0;
    for (unsigned i = 0; i < (console->has_control ? console->count : 1); i++) {
        console_transmit(&console->ports[i]);
        if (console_port_has_output(&console->ports[i], &look->written))
            look->rest = true;
    }
}

/* Linux takes a write for done when it is in the queue, and resets the device when it powers off.
 */
static void console_drain(struct virtio_device *v)
{
    struct console_look look = { .console = console_of(v) };
    unsigned idle_ms = 0;

    loop_call(v->loop, console_look, &look);
    while (look.rest && idle_ms < CONSOLE_LINGER_MS) {
        uint64_t before = look.written;

        poll(NULL, 0, CONSOLE_LOOK_MS);
        loop_call(v->loop, console_look, &look);
        idle_ms = look.written == before ? idle_ms + CONSOLE_LOOK_MS : 0;
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

/* What the guest knows of the host's ends may be of other ones. */
static void console_resume(struct virtio_device *v)
{
    struct virtio_console *console = console_of(v);

    for (unsigned i = 0; console->loaded && i < console->count; i++) {
        console_is_due(&console->ports[i], DUE_OPEN);
        console_resized(&console->ports[i]);
    }
    console->loaded = false;
}

static void console_check_port(const struct console_port *port, struct state *s)
{
    const unsigned known = 1u << DUE_ADD | 1u << DUE_CONSOLE | 1u << DUE_SIZE | 1u << DUE_OPEN |
                           (unsigned)!!port->end.name << DUE_NAME;

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
            console_port_forget(port);
    }
}

static void console_destroy(struct virtio_device *v)
{
    struct virtio_console *console = console_of(v);

    for (unsigned i = 0; i < console->count; i++)
        terminal_set_client(console->ports[i].end.terminal, NULL);
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

static void console_add_port(struct virtio_console *console, const struct virtio_console_port *end)
{
    struct console_port *port = &console->ports[console->count++];
    uint16_t columns, rows;

    port->end = *end;
    port->virtio = &console->virtio;
    port->all = console->ports;
    if (end->console && terminal_size(end->terminal, &columns, &rows))
        console->has_size = true;
    terminal_set_client(end->terminal, &(struct terminal_client){ .input = console_input,
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
