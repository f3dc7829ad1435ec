/* SPDX-License-Identifier: MIT */
#include "lib/sanity.h"

#include <linux/fuse.h>
#include <linux/virtio_blk.h>

#define NET_HEADER   12
#define ETHERNET_MIN 60

static const struct virtio_blk_outhdr get_id = { .type = VIRTIO_BLK_T_GET_ID };
static const uint8_t frame[NET_HEADER + ETHERNET_MIN] = {
    [NET_HEADER] = 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x52, 0x54, 0, 0x12, 0x34, 0x56, 0x88, 0xb5
};
static const struct {
    struct fuse_in_header header;
    struct fuse_init_in args;
} init = { { .len = sizeof(init), .opcode = FUSE_INIT }, { .major = 7, .minor = 31 } };
static uint8_t init_reply[sizeof(struct fuse_out_header) + sizeof(struct fuse_init_out)];
static uint8_t disk_id[VIRTIO_BLK_ID_BYTES + 1];
static uint8_t entropy[16];
static const uint32_t deflated[2]; /* to inflate could take the payload's own pages away */

static const struct sanity devices[] = {
    { "blk",
      VIRTIO_ID_BLOCK,
      1,
      0,
      { &get_id, sizeof(get_id), disk_id, sizeof(disk_id) },
      sizeof(disk_id) },
    { "net", VIRTIO_ID_NET, 2, 1, { frame, sizeof(frame), NULL, 0 }, 0 },
    { "console", VIRTIO_ID_CONSOLE, 2, 1, { ".", 1, NULL, 0 }, 0 },
    { "fs",
      VIRTIO_ID_FS,
      2,
      1,
      { &init, sizeof(init), init_reply, sizeof(init_reply) },
      sizeof(init_reply) },
    { "rng", VIRTIO_ID_RNG, 1, 0, { NULL, 0, entropy, sizeof(entropy) }, sizeof(entropy) },
    { "balloon", VIRTIO_ID_BALLOON, 5, 1, { deflated, sizeof(deflated), NULL, 0 }, 0 },
};

const struct sanity *sanity_device(void)
{
    for (unsigned i = 0; i < ARRAY_SIZE(devices); i++)
        if (word_is(0, devices[i].name))
            return &devices[i];
    print("unknown device: %s\n", platform_cmdline());
    platform_exit(EXIT_UNEXPECTED);
}

void sanity_submit(const struct sanity *device, const struct virtio *v, struct queue *q)
{
    queue_submit(q, &device->request);
    virtio_notify(v, device->queue);
}

void sanity_wait(const struct sanity *device, struct queue *q)
{
    expect_equal(queue_wait(q, 0), device->written);
}

void sanity_check(const struct sanity *device, const struct virtio *v, struct queue *q)
{
    sanity_submit(device, v, q);
    sanity_wait(device, q);
}
