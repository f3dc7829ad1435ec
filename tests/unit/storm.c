/* SPDX-License-Identifier: MIT */

/*
 * Several vCPUs do random things to one device at the same time: writes of every register,
 * incomplete set-ups, resets at any moment, rings that change while they are read. Nothing may
 * crash, race or hang, the device's loop must not starve, and afterwards a correct driver must be
 * served. The same holds if the vCPUs are parked and the device is paused at any moment.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/virtio_config.h>
#include <linux/virtio_mmio.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "devices/block/block.h"
#include "devices/block/open.h"
#include "devices/net/net.h"
#include "devices/virtio/balloon.h"
#include "devices/virtio/blk.h"
#include "devices/virtio/console.h"
#include "devices/virtio/mmio.h"
#include "devices/virtio/net.h"
#include "devices/virtio/rng.h"
#include "devices/virtio/virtio.h"
#include "tests/unit/host.h"
#include "tests/unit/notifiers.h"
#include "tests/unit/unit.h"
#include "vmm/core/base.h"
#include "vmm/core/clock.h"
#include "vmm/core/device.h"
#include "vmm/core/endian.h"
#include "vmm/core/state.h"

#define VCPUS      4
#define SECONDS    0.6
#define SIZE       16      /* of a queue */
#define RINGS      0x1000u /* of the first queue */
#define RING_STEP  0x1000u /* from queue to queue */
#define AVAIL      0x400u  /* from a queue's descriptors to its rings */
#define USED       0x800u
#define BUFFERS    0x100000u /* what descriptors point at */
#define RAM_SIZE   0x200000u
#define DISK_SIZE  0x100000
#define TURN_LIMIT 20.0 /* seconds a loop_call() may take: a starving loop exceeds any limit */

struct storm {
    uint32_t shadow[VIRTIO_MMIO_REGISTERS_SIZE / 4];
    struct guest_memory *mem;
    struct loop *loop;
    struct virtio_device *virtio;
    struct device *device;
    const struct io_region *region;
    struct terminal *terminal;
    int zero, null; /* /dev/zero and /dev/null, or -1 */
    struct net net;
    unsigned frames;         /* used on the loop */
    pthread_rwlock_t parked; /* read-locked by a vCPU for each step, write-locked to park all */
    bool stop;               /* atomic */
};

/* A network back-end that blocks two of three sends and always has a frame to receive. */
static int net_send(struct net *net, const struct net_header *header, struct sg *frame)
{
    struct storm *s = container_of(net, struct storm, net);

    return s->frames++ % 3 ? 0 : -EAGAIN;
}

static ssize_t net_receive(struct net *net, struct sg *room)
{
    size_t size = NET_HEADER_SIZE + 60 + container_of(net, struct storm, net)->frames++ % 1400;

    return sg_zero(room, size) ? (ssize_t)size : -EAGAIN;
}

static void net_want_receive(struct net *net, bool want)
{
}

static void net_closed(struct net *net)
{
}

static const struct net_ops net_ops = {
    .send = net_send,
    .receive = net_receive,
    .want_receive = net_want_receive,
    .close = net_closed,
};

static void storm_create_blk(struct storm *s, struct block_options options)
{
    static char path[32]; /* outlives the disk */
    struct block *block;
    int fd;

    strcpy(path, "/tmp/minivmm-storm-XXXXXX");
    fd = mkstemp(path);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(ftruncate(fd, DISK_SIZE), 0);
    close(fd);
    options.path = path;
    ck_assert_int_eq(block_open(&block, &options, s->loop), 0);
    unlink(path);
    ck_assert_int_eq(virtio_blk_create(&s->virtio, "blk0", block, "", 0, s->mem, s->loop), 0);
}

static void create_blk_auto(struct storm *s)
{
    storm_create_blk(s, (struct block_options){ .engine = BLOCK_ENGINE_AUTO });
}

static void create_blk_thread(struct storm *s)
{
    storm_create_blk(s, (struct block_options){ .engine = BLOCK_ENGINE_THREAD });
}

static void create_blk_throw_away(struct storm *s)
{
    storm_create_blk(s, (struct block_options){ .throw_away = true, .max = DISK_SIZE / 2 });
}

static void create_net(struct storm *s)
{
    const uint8_t mac[6] = { 0x52, 0x54 };

    s->net.ops = &net_ops;
    ck_assert_int_eq(virtio_net_create(&s->virtio, "net0", &s->net, mac, s->mem, s->loop), 0);
}

static void storm_create_console(struct storm *s, const char *port)
{
    struct virtio_console_port end = { .name = port };

    s->zero = open("/dev/zero", O_RDONLY | O_CLOEXEC);
    s->null = open("/dev/null", O_RDWR | O_CLOEXEC);
    s->terminal = end.terminal = host_terminal(s->loop, s->zero, s->null);
    ck_assert_int_eq(virtio_console_create(&s->virtio, "con0", &end, 1, s->mem, s->loop), 0);
}

static void create_console(struct storm *s)
{
    storm_create_console(s, NULL);
}

/* A console with MULTIPORT. */
static void create_port(struct storm *s)
{
    storm_create_console(s, "port");
}

static void create_rng(struct storm *s)
{
    ck_assert_int_eq(virtio_rng_create(&s->virtio, "rng0", s->mem, s->loop), 0);
}

static void create_balloon(struct storm *s)
{
    ck_assert_int_eq(virtio_balloon_create(&s->virtio, "balloon0", s->mem, s->loop), 0);
}

static void (*const devices[])(struct storm *s) = {
    create_blk_auto, create_blk_thread, create_blk_throw_away, create_net,
    create_rng,      create_console,    create_port,           create_balloon,
};

static uint32_t dice(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(*state >> 33);
}

static void put(struct storm *s, uint64_t reg, uint32_t value)
{
    s->region->ops->write(s->region->owner, reg, 4, value);
}

static void *ram(struct storm *s, uint64_t addr)
{
    return guest_ptr(s->mem, addr, 8);
}

static void storm_set_up(struct storm *s, uint32_t features)
{
    static const uint64_t parts[] = { VIRTIO_MMIO_QUEUE_DESC_LOW, VIRTIO_MMIO_QUEUE_AVAIL_LOW,
                                      VIRTIO_MMIO_QUEUE_USED_LOW };

    put(s, VIRTIO_MMIO_STATUS, 0);
    put(s, VIRTIO_MMIO_STATUS, 3);
    for (unsigned i = 0; i < 2; i++) {
        uint32_t offered;

        put(s, VIRTIO_MMIO_DEVICE_FEATURES_SEL, i);
        put(s, VIRTIO_MMIO_DRIVER_FEATURES_SEL, i);
        offered = (uint32_t)s->region->ops->read(s->region->owner, VIRTIO_MMIO_DEVICE_FEATURES, 4);
        put(s, VIRTIO_MMIO_DRIVER_FEATURES, offered & (i ? ~0u : features));
    }
    put(s, VIRTIO_MMIO_STATUS, 11);
    for (unsigned q = 0; q < s->virtio->queue_count; q++) {
        put(s, VIRTIO_MMIO_QUEUE_SEL, q);
        put(s, VIRTIO_MMIO_QUEUE_NUM, SIZE);
        for (unsigned i = 0; i < ARRAY_SIZE(parts); i++)
            put(s, parts[i], RINGS + q * RING_STEP + i * AVAIL);
        le16_store(ram(s, RINGS + q * RING_STEP + AVAIL + 2), 0);
        put(s, VIRTIO_MMIO_QUEUE_READY, 1);
    }
    put(s, VIRTIO_MMIO_STATUS, 15);
}

/* Writes a random descriptor, mostly valid, into a ring and advances the index. */
static void storm_scribble(struct storm *s, uint64_t *seed)
{
    uint64_t rings = RINGS + dice(seed) % s->virtio->queue_count * RING_STEP;
    uint64_t desc = rings + 16ull * (dice(seed) % SIZE);
    le16 *idx = ram(s, rings + AVAIL + 2);

    le64_store(ram(s, desc), dice(seed) % 64 ? BUFFERS + dice(seed) % 0x10000 : dice(seed));
    le32_store(ram(s, desc + 8), dice(seed) % 8192);
    le16_store(ram(s, desc + 12), (uint16_t)(dice(seed) % 4));
    le16_store(ram(s, desc + 14), (uint16_t)(dice(seed) % (SIZE + 1)));
    le16_store(ram(s, rings + AVAIL + 4 + 2ull * (dice(seed) % SIZE)),
               (uint16_t)(dice(seed) % SIZE));
    le16_store(idx, le16_load(idx) + dice(seed) % 2);
    put(s, VIRTIO_MMIO_QUEUE_NOTIFY, dice(seed) % (s->virtio->queue_count + 1));
}

static void storm_poke(struct storm *s, uint64_t *seed)
{
    unsigned size = 1u << dice(seed) % 4;
    uint64_t offset = dice(seed) % (VIRTIO_MMIO_REGISTERS_SIZE - size + 1);

    if (dice(seed) % 2)
        s->region->ops->read(s->region->owner, offset, size);
    else
        s->region->ops->write(s->region->owner, offset, size, dice(seed));
}

static void *storm_vcpu(void *arg)
{
    struct storm *s = arg;
    uint64_t seed = (uintptr_t)&seed;

    while (!__atomic_load_n(&s->stop, __ATOMIC_RELAXED)) {
        unsigned what = dice(&seed) % 64;

        pthread_rwlock_rdlock(&s->parked);
        if (what == 0)
            storm_set_up(s, dice(&seed));
        else if (what < 48)
            storm_scribble(s, &seed);
        else if (what < 60)
            storm_poke(s, &seed);
        else
            put(s, VIRTIO_MMIO_STATUS, dice(&seed) % 16);
        pthread_rwlock_unlock(&s->parked);
    }
    return NULL;
}

static void nothing(void *arg)
{
}

/* Returns the longest time a loop_call() took during the storm. */
static double storm_wait(struct storm *s)
{
    double end = host_seconds() + SECONDS, longest = 0;

    while (host_seconds() < end) {
        double before = host_seconds();

        loop_call(s->loop, nothing, NULL);
        if (host_seconds() - before > longest)
            longest = host_seconds() - before;
        usleep(1000);
    }
    return longest;
}

static void storm_init(struct storm *s, void (*create)(struct storm *s))
{
    pthread_rwlockattr_t fair;
    struct virtio_mmio *mmio;

    memset(s, 0, sizeof(*s));
    s->zero = s->null = -1;
    pthread_rwlockattr_init(&fair);
    pthread_rwlockattr_setkind_np(&fair, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
    pthread_rwlock_init(&s->parked, &fair);
    pthread_rwlockattr_destroy(&fair);
    s->mem = guest_memory_create();
    s->loop = loop_create();
    ck_assert_int_eq(guest_memory_add(s->mem, 0, RAM_SIZE, NULL), 0);
    create(s);
    ck_assert_int_eq(virtio_mmio_create(&mmio, s->virtio, 0, 5, &no_notifiers, s->shadow), 0);
    s->device = virtio_mmio_device(mmio);
    s->region = virtio_mmio_region(mmio);
    ck_assert_int_eq(loop_start(s->loop, "storm"), 0);
}

static void storm_finish(struct storm *s)
{
    loop_join(s->loop);
    s->device->ops->destroy(s->device);
    terminal_destroy(s->terminal, 0);
    if (s->terminal) {
        close(s->zero);
        close(s->null);
    }
    loop_destroy(s->loop);
    guest_memory_destroy(s->mem);
    pthread_rwlock_destroy(&s->parked);
}

/* Posts one buffer on each queue; true if the device uses one of them. */
static bool storm_is_served(struct storm *s)
{
    double end = host_seconds() + HOST_TIMEOUT_S;
    bool served = false;

    memset(ram(s, RINGS), 0, 2 * RING_STEP);
    storm_set_up(s, 0);
    for (unsigned q = 0; q < 2; q++) {
        uint64_t desc = RINGS + q * RING_STEP;

        le64_store(ram(s, desc), BUFFERS);
        le32_store(ram(s, desc + 8), 2048);
        le16_store(ram(s, desc + 12), q == 1 ? 0 : 2);
        le16_store_release(ram(s, desc + AVAIL + 2), 1);
        put(s, VIRTIO_MMIO_QUEUE_NOTIFY, q);
    }
    while (!served && host_seconds() < end) {
        served = le16_load_acquire(ram(s, RINGS + USED + 2)) == 1;
        usleep(1000);
    }
    return served && !(s->region->ops->read(s->region->owner, VIRTIO_MMIO_STATUS, 4) &
                       VIRTIO_CONFIG_S_NEEDS_RESET);
}

static void storm_begin(struct storm *s, pthread_t vcpus[VCPUS], void (*create)(struct storm *s))
{
    storm_init(s, create);
    for (unsigned i = 0; i < VCPUS; i++)
        ck_assert_int_eq(pthread_create(&vcpus[i], NULL, storm_vcpu, s), 0);
}

static void storm_end(struct storm *s, pthread_t vcpus[VCPUS])
{
    __atomic_store_n(&s->stop, true, __ATOMIC_RELAXED);
    for (unsigned i = 0; i < VCPUS; i++)
        pthread_join(vcpus[i], NULL);
    ck_assert(storm_is_served(s));
    storm_finish(s);
}

START_TEST(random_accesses_by_several_vcpus)
{
    pthread_t vcpus[VCPUS];
    struct storm s;

    storm_begin(&s, vcpus, devices[_i]);
    ck_assert_double_lt(storm_wait(&s), TURN_LIMIT);
    storm_end(&s, vcpus);
}
END_TEST

static void storm_save(struct storm *s, struct state *ret)
{
    state_begin_save(ret);
    s->device->ops->state(s->device, ret);
    ck_assert_int_eq(ret->error, 0);
}

static void pause_terminal(void *arg)
{
    terminal_pause(arg);
}

static void resume_terminal(void *arg)
{
    terminal_resume(arg);
}

/* Pauses the terminal first, and resumes it last, as a machine does. */
static void storm_pause_device(struct storm *s)
{
    if (s->terminal)
        loop_call(s->loop, pause_terminal, s->terminal);
    ck_assert_int_eq(s->device->ops->pause(s->device, clock_now_ns() + 5000000000), 0);
}

static void storm_resume_device(struct storm *s)
{
    s->device->ops->resume(s->device);
    if (s->terminal)
        loop_call(s->loop, resume_terminal, s->terminal);
}

/* Whatever the guest has done, another device loads the state, continues and can be destroyed. */
static void storm_move(struct storm *s, void (*create)(struct storm *s))
{
    static struct storm twin;
    struct state saved, again, in;

    storm_save(s, &saved);
    storm_init(&twin, create);
    storm_pause_device(&twin);
    memcpy(ram(&twin, 0), ram(s, 0), RAM_SIZE);
    state_begin_load(&in, saved.bytes, saved.at);
    twin.device->ops->state(twin.device, &in);
    ck_assert_msg(state_finish(&in) == 0, "%s", in.why);
    storm_save(&twin, &again);
    ck_assert_uint_eq(again.at, saved.at);
    ck_assert_mem_eq(again.bytes, saved.bytes, saved.at);
    storm_resume_device(&twin);
    storm_finish(&twin);
    state_finish(&again);
    state_finish(&saved);
}

/* With the vCPUs parked and the device paused memory must not change. */
static void storm_pause(struct storm *s, void (*create)(struct storm *s))
{
    static uint8_t before[RAM_SIZE];

    storm_pause_device(s);
    memcpy(before, ram(s, 0), RAM_SIZE);
    usleep(200);
    storm_move(s, create);
    ck_assert_mem_eq(ram(s, 0), before, RAM_SIZE);
    storm_resume_device(s);
}

START_TEST(paused_at_any_moment)
{
    double end = host_seconds() + SECONDS;
    pthread_t vcpus[VCPUS];
    unsigned pauses = 0;
    struct storm s;

    storm_begin(&s, vcpus, devices[_i]);
    for (; host_seconds() < end || pauses == 0; pauses++) {
        pthread_rwlock_wrlock(&s.parked);
        storm_pause(&s, devices[_i]);
        pthread_rwlock_unlock(&s.parked);
        usleep(500);
    }
    storm_end(&s, vcpus);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("storm");
    TCase *tcase = tcase_create("storm");

    tcase_set_timeout(tcase, 60);
    tcase_add_loop_test(tcase, random_accesses_by_several_vcpus, 0, ARRAY_SIZE(devices));
    tcase_add_loop_test(tcase, paused_at_any_moment, 0, ARRAY_SIZE(devices));
    suite_add_tcase(suite, tcase);
    return unit_run(suite);
}
