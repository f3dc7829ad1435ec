/* SPDX-License-Identifier: MIT */

/*
 * A hostile driver of virtio-balloon: eight bytes of input are one descriptor, a few page numbers
 * or one action. Its rings and buffers may be among the pages that it gives back. Afterwards a
 * correct driver is served.
 */
#include "devices/virtio/balloon.h"

#include <linux/virtio_balloon.h>
#include <string.h>

#include "tests/fuzz/fuzz.h"
#include "vmm/core/base.h"
#include "vmm/core/endian.h"
#include "vmm/core/log.h"

#define FEATURES BIT(VIRTIO_BALLOON_F_REPORTING)
#define STEP     8
#define REPORT   2

static void act(struct driver *d, const uint8_t *b)
{
    unsigned queue = (b[0] & 15) % d->device->queue_count;

    switch (b[0] >> 5) {
    case 0:
    case 1: /* a descriptor: mostly among the buffers, sometimes the rings or outside */
        driver_describe(d, queue, b[1] % 64, (uint64_t)(b[2] | b[3] << 8) << 7,
                        (uint32_t)b[4] << (b[5] & 31), b[5] >> 5, b[6]);
        break;
    case 2:
        for (unsigned i = 0; i < 6; i++)
            le32_store((le32 *)driver_ram(d, DRIVER_BUFFERS) + (b[1] & 127) + i,
                       (uint32_t)b[2 + i] << (b[1] & 128 ? 2 : 24));
        break;
    case 3:
    case 4:
        driver_publish(d, queue, b[1]);
        if (b[0] & 16)
            driver_kick(d, queue);
        break;
    case 5:
        loop_turn(d->loop, 0);
        virtio_write_config(d->device, b[1] & 7, b[2] & 7, b[3]);
        break;
    case 6:
        driver_set_avail_idx(d, queue, (uint16_t)(b[1] | b[2] << 8));
        driver_kick(d, queue);
        break;
    default:
        demand(virtio_pause(d->device, UINT64_MAX) == 0);
        virtio_resume(d->device);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct driver d;
    uint8_t *page;

    log_set_level(LOG_LEVEL_ERROR);
    if (begin_driver(&d) && virtio_balloon_create(&d.device, "balloon0", d.mem, d.loop) < 0)
        abort();
    demand(driver_start(&d, d.device, FEATURES | 1ull << 28));
    for (; size >= STEP; data += STEP, size -= STEP)
        act(&d, data);
    virtio_reset(d.device);

    for (uint64_t rings = 0x10000; rings < 0x60000; rings += 0x10000) { /* empty */
        memset(driver_ram(&d, rings + 0x4000), 0, 4);
        memset(driver_ram(&d, rings + 0x8000), 0, 4);
    }
    page = driver_ram(&d, DRIVER_RAM - 65536);
    *page = 1;
    demand(driver_start(&d, d.device, FEATURES));
    driver_describe(&d, REPORT, 0, DRIVER_RAM - 65536, 65536, DRIVER_WRITE, 0);
    driver_publish(&d, REPORT, 0);
    driver_kick(&d, REPORT);
    demand(driver_wait(&d, REPORT, NULL, NULL) && *page == 0);
    virtio_reset(d.device);
    return 0;
}
