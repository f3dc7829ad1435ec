/* SPDX-License-Identifier: MIT */
#include "devices/virtio/input.h"

#include <errno.h>
#include <linux/input-event-codes.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_input.h>
#include <stdlib.h>
#include <string.h>

#include "devices/virtio/virtio.h"
#include "vmm/core/base.h"
#include "vmm/core/endian.h"
#include "vmm/core/state.h"

enum { QUEUE_EVENTS, QUEUE_STATUS, QUEUES };

#define DEVICE_NAME "minivmm power button"

/* Offsets in configuration space (virtio 1.2, 5.8.4): the driver writes what it wants to read. */
#define CONFIG_SELECT    0
#define CONFIG_SUBSELECT 1
#define CONFIG_SIZE      2 /* of the data */
#define CONFIG_DATA      8

struct input_event {
    le16 type, code;
    le32 value;
};

/* The events of one press and release. Each takes a buffer of its own. */
static const struct input_press {
    uint16_t type, code;
    uint32_t value;
} input_press[] = {
    { EV_KEY, KEY_POWER, 1 },
    { EV_SYN, SYN_REPORT, 0 },
    { EV_KEY, KEY_POWER, 0 },
    { EV_SYN, SYN_REPORT, 0 },
};

struct virtio_input {
    struct virtio_device virtio;
    uint8_t select, subselect;
    unsigned due; /* events of a press still to be sent */
    struct virtq_chain chain;
};

static uint32_t input_put_event(struct sg *room, const struct input_press *press)
{
    struct input_event event;

    le16_store(&event.type, press->type);
    le16_store(&event.code, press->code);
    le32_store(&event.value, press->value);
    return sg_write(room, &event, sizeof(event)) ? sizeof(event) : 0;
}

static void input_send(struct virtio_input *input)
{
    struct virtq *q = virtio_virtq(&input->virtio, QUEUE_EVENTS);

    do {
        while (input->due > 0 && virtq_pop(q, &input->chain)) {
            const struct input_press *press = &input_press[ARRAY_SIZE(input_press) - input->due--];

            virtq_push(q, &input->chain, input_put_event(&input->chain.writable, press));
        }
        virtq_flush(q);
    } while (!virtq_enable_notification(q) && input->due > 0);
}

/* Returns status events (keyboard LEDs) unread. */
static void input_ignore_status(struct virtio_input *input)
{
    struct virtq *q = virtio_virtq(&input->virtio, QUEUE_STATUS);

    for (unsigned i = 0; i < VIRTQ_MAX_SIZE && virtq_pop(q, &input->chain); i++)
        virtq_push(q, &input->chain, 0);
    virtq_flush(q);
    if (!virtq_enable_notification(q))
        virtio_kick(&input->virtio, QUEUE_STATUS); /* continue after the loop's other work */
}

static void input_kick(struct virtio_device *v, unsigned queue)
{
    struct virtio_input *input = container_of(v, struct virtio_input, virtio);

    if (queue == QUEUE_EVENTS)
        input_send(input);
    else
        input_ignore_status(input);
}

/* A press that was sent only in part is sent again to the next driver. */
static void input_stop(struct virtio_device *v)
{
    struct virtio_input *input = container_of(v, struct virtio_input, virtio);

    input->select = input->subselect = 0;
    if (input->due > 0)
        input->due = ARRAY_SIZE(input_press);
}

/* Fills in the data that the driver has selected; returns its size. */
static size_t input_fill_data(const struct virtio_input *input, uint8_t *data)
{
    if (input->select == VIRTIO_INPUT_CFG_ID_NAME) {
        memcpy(data, DEVICE_NAME, sizeof(DEVICE_NAME) - 1);
        return sizeof(DEVICE_NAME) - 1;
    }
    if (input->select == VIRTIO_INPUT_CFG_EV_BITS && input->subselect == EV_KEY) {
        data[KEY_POWER / 8] = 1u << KEY_POWER % 8;
        return KEY_POWER / 8 + 1;
    }
    return 0;
}

static void input_read_config(struct virtio_device *v, void *config)
{
    const struct virtio_input *input = container_of(v, struct virtio_input, virtio);
    uint8_t *bytes = config;

    memset(bytes, 0, VIRTIO_MAX_CONFIG);
    bytes[CONFIG_SELECT] = input->select;
    bytes[CONFIG_SUBSELECT] = input->subselect;
    bytes[CONFIG_SIZE] = (uint8_t)input_fill_data(input, bytes + CONFIG_DATA);
}

static void input_write_config(struct virtio_device *v, unsigned offset, unsigned size,
                               uint64_t value)
{
    struct virtio_input *input = container_of(v, struct virtio_input, virtio);

    if (size == 1 && offset == CONFIG_SELECT)
        input->select = (uint8_t)value;
    else if (size == 1 && offset == CONFIG_SUBSELECT)
        input->subselect = (uint8_t)value;
}

static void input_state(struct virtio_device *v, struct state *s)
{
    struct virtio_input *input = container_of(v, struct virtio_input, virtio);

    state_field(s, input, select);
    state_field(s, input, subselect);
    state_field(s, input, due);
    if (input->due > ARRAY_SIZE(input_press)) {
        input->due = 0;
        state_fail(s, "due: more events than one press");
    }
}

static void input_destroy(struct virtio_device *v)
{
    free(container_of(v, struct virtio_input, virtio));
}

static const struct virtio_ops input_ops = {
    .type = VIRTIO_ID_INPUT,
    .queue_size = 64,
    .config_size = VIRTIO_MAX_CONFIG,
    .read_config = input_read_config,
    .write_config = input_write_config,
    .stop = input_stop,
    .kick = input_kick,
    .destroy = input_destroy,
};

int virtio_input_create(struct virtio_device **ret, const char *name,
                        const struct guest_memory *mem, struct loop *loop)
{
    struct virtio_input *input = calloc(1, sizeof(*input));
    int error;

    if (!input)
        return -ENOMEM;
    error = virtio_init(&input->virtio, &input_ops, input_state, QUEUES, name, mem, loop);
    if (error < 0) {
        free(input);
        return error;
    }
    *ret = &input->virtio;
    return 0;
}

void virtio_input_press(struct virtio_device *v)
{
    struct virtio_input *input = container_of(v, struct virtio_input, virtio);

    if (input->due == 0)
        input->due = ARRAY_SIZE(input_press);
    if (virtq_started(virtio_virtq(v, QUEUE_EVENTS)))
        input_send(input);
}
