/* SPDX-License-Identifier: MIT */
#include "devices/virtio/vhost_net.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/vhost.h>
#include <linux/virtio_net.h>
#include <linux/virtio_ring.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "devices/net/net.h"
#include "tests/unit/driver.h"
#include "tests/unit/unit.h"
#include "vmm/core/base.h"

#define TAP 1234 /* no descriptor: only passed on */

/* A kernel's vhost-net that notes what it is told. */
static struct vhost {
    int open_error;
    uint64_t can;          /* features */
    unsigned long refused; /* the request that fails */
    unsigned owners, tables;
    uint64_t features;
    struct vhost_memory_region ram;
    struct {
        unsigned size;
        struct vhost_vring_addr addr;
        int kick, call, err, backend;
    } queues[2];
} vhost;

static struct net net;
static uint64_t offloads;
static unsigned closed;
static struct driver d;
static const uint8_t mac[6] = { 2, 0, 0, 1, 2, 3 };

static void note_file(unsigned long request, const struct vhost_vring_file *file)
{
    if (request == VHOST_SET_VRING_KICK)
        vhost.queues[file->index].kick = file->fd;
    else if (request == VHOST_SET_VRING_CALL)
        vhost.queues[file->index].call = file->fd;
    else if (request == VHOST_SET_VRING_ERR)
        vhost.queues[file->index].err = file->fd;
    else
        vhost.queues[file->index].backend = file->fd;
}

static void note(unsigned long request, void *arg)
{
    const struct vhost_memory *table = arg;
    const struct vhost_vring_addr *addr = arg;
    const struct vhost_vring_state *state = arg;

    switch (request) {
    case VHOST_GET_FEATURES:
        *(uint64_t *)arg = vhost.can;
        break;
    case VHOST_SET_FEATURES:
        vhost.features = *(uint64_t *)arg;
        break;
    case VHOST_SET_OWNER:
        ck_assert_uint_eq(vhost.owners++, 0); /* the kernel's says EBUSY */
        break;
    case VHOST_SET_MEM_TABLE:
        vhost.tables++;
        ck_assert_uint_eq(table->nregions, 1);
        vhost.ram = table->regions[0];
        break;
    case VHOST_SET_VRING_ADDR:
        vhost.queues[addr->index].addr = *addr;
        break;
    case VHOST_SET_VRING_NUM:
        vhost.queues[state->index].size = state->num;
        break;
    case VHOST_SET_VRING_BASE:
        ck_assert_uint_eq(state->num, 0);
        break;
    default:
        note_file(request, arg);
    }
}

/* In place of libc's. */
int ioctl(int fd, unsigned long request, ...)
{
    va_list list;
    void *arg;

    va_start(list, request);
    arg = va_arg(list, void *);
    va_end(list);
    if (_IOC_TYPE(request) != VHOST_VIRTIO)
        return (int)syscall(SYS_ioctl, fd, request, arg);
    if (request == vhost.refused) {
        errno = ENOMEM;
        return -1;
    }
    note(request, arg);
    return 0;
}

int open(const char *path, int flags, ...)
{
    ck_assert_str_eq(path, "/dev/vhost-net");
    if (vhost.open_error) {
        errno = vhost.open_error;
        return -1;
    }
    return (int)syscall(SYS_openat, AT_FDCWD, "/dev/null", flags);
}

static void set_offloads(struct net *n, uint64_t features)
{
    offloads = features;
}

static void close_net(struct net *n)
{
    closed++;
}

static const struct net_ops net_ops = { .set_offloads = set_offloads, .close = close_net };

static void setup(void)
{
    vhost = (struct vhost){ .can = ~0ull };
    for (unsigned i = 0; i < 2; i++)
        vhost.queues[i].backend = -1;
    net = (struct net){ .ops = &net_ops, .offloads = BIT(VIRTIO_NET_F_CSUM) };
    driver_init(&d);
}

static int create(void)
{
    return vhost_net_create(&d.device, "net0", &net, TAP, mac, d.mem, d.loop);
}

static void teardown(void)
{
    driver_finish(&d);
}

static bool attached(unsigned queue)
{
    return vhost.queues[queue].backend == TAP;
}

static void reset(void)
{
    virtio_set_status(d.device, 0);
}

START_TEST(queues_are_handed_over)
{
    ck_assert_int_eq(create(), 0);
    ck_assert(!attached(0) && vhost.owners == 0); /* not before there is a driver */
    ck_assert(driver_start(&d, d.device, BIT(VIRTIO_NET_F_CSUM) | BIT(VIRTIO_RING_F_EVENT_IDX)));
    ck_assert_uint_eq(vhost.owners, 1);
    ck_assert_uint_eq(vhost.features, BIT(VIRTIO_F_VERSION_1) | BIT(VIRTIO_RING_F_EVENT_IDX));
    ck_assert_uint_eq(offloads & BIT(VIRTIO_NET_F_CSUM), BIT(VIRTIO_NET_F_CSUM));
    ck_assert_uint_eq(vhost.ram.guest_phys_addr, 0);
    ck_assert_uint_eq(vhost.ram.memory_size, DRIVER_RAM);
    ck_assert_ptr_eq((void *)(uintptr_t)vhost.ram.userspace_addr, driver_ram(&d, 0));
    for (unsigned i = 0; i < 2; i++) {
        const struct virtq_layout *layout = &d.device->queues[i].layout;
        const struct vhost_vring_addr *addr = &vhost.queues[i].addr;

        ck_assert(attached(i));
        ck_assert_uint_eq(vhost.queues[i].size, DRIVER_QUEUE_SIZE);
        ck_assert_int_eq(vhost.queues[i].kick, virtio_kick_fd(d.device, i));
        ck_assert_int_eq(vhost.queues[i].call, d.call_fd[i]);
        ck_assert_ptr_eq((void *)(uintptr_t)addr->desc_user_addr, driver_ram(&d, layout->desc));
        ck_assert_ptr_eq((void *)(uintptr_t)addr->avail_user_addr, driver_ram(&d, layout->avail));
        ck_assert_ptr_eq((void *)(uintptr_t)addr->used_user_addr, driver_ram(&d, layout->used));
    }
}
END_TEST

START_TEST(doorbells_are_left_to_vhost)
{
    uint64_t count;

    ck_assert_int_eq(create(), 0);
    ck_assert(driver_start(&d, d.device, 0));
    driver_kick(&d, 1);
    ck_assert_int_eq(read(vhost.queues[1].kick, &count, sizeof(count)), sizeof(count));
}
END_TEST

START_TEST(reset_takes_them_back)
{
    ck_assert_int_eq(create(), 0);
    ck_assert(driver_start(&d, d.device, 0));
    reset();
    ck_assert(!attached(0) && !attached(1));
    ck_assert(!d.call_fd[0] && !d.call_fd[1]);
    ck_assert(driver_start(&d, d.device, 0));
    ck_assert(attached(0) && attached(1));
    ck_assert_uint_eq(vhost.owners, 1);
    driver_finish(&d);
    ck_assert(!attached(0) && closed == 1);
    driver_init(&d);
}
END_TEST

START_TEST(rings_outside_ram_never_reach_it)
{
    ck_assert_int_eq(create(), 0);
    driver_find(&d, d.device);
    virtio_set_status(d.device, 3);
    virtio_set_features(d.device, BIT(VIRTIO_F_VERSION_1));
    virtio_set_status(d.device, 11);
    for (unsigned i = 0; i < 2; i++) {
        driver_set_address(d.device, i, VIRTIO_RING_DESC, i ? DRIVER_RAM - 16 : 0);
        driver_set_address(d.device, i, VIRTIO_RING_AVAIL, 0x10000);
        driver_set_address(d.device, i, VIRTIO_RING_USED, 0x20000);
        virtio_set_queue_ready(d.device, i, true);
    }
    virtio_set_status(d.device, 15);
    ck_assert(driver_broken(&d));
    ck_assert(attached(0) && !attached(1));
}
END_TEST

/* The loop has not heard of it yet. */
static void start_and_stumble(void)
{
    uint64_t one = 1;

    ck_assert_int_eq(create(), 0);
    ck_assert(driver_start(&d, d.device, 0));
    ck_assert_int_eq(write(vhost.queues[1].err, &one, sizeof(one)), sizeof(one));
}

START_TEST(what_vhost_stumbles_over_breaks_the_card)
{
    start_and_stumble();
    loop_turn(d.loop, 0);
    ck_assert(driver_broken(&d) && !attached(1));
    ck_assert_uint_eq(d.config_changes, 1);
    reset();
    ck_assert(driver_start(&d, d.device, 0));
    ck_assert(!driver_broken(&d) && attached(1));
}
END_TEST

START_TEST(what_it_stumbled_over_goes_with_the_driver)
{
    start_and_stumble();
    reset();
    ck_assert(driver_start(&d, d.device, 0));
    loop_turn(d.loop, 0);
    ck_assert(!driver_broken(&d) && attached(1));
}
END_TEST

static const unsigned long requests[] = { VHOST_SET_OWNER,      VHOST_SET_MEM_TABLE,
                                          VHOST_SET_FEATURES,   VHOST_SET_VRING_NUM,
                                          VHOST_SET_VRING_CALL, VHOST_NET_SET_BACKEND };

START_TEST(a_vhost_that_refuses_breaks_the_card)
{
    ck_assert_int_eq(create(), 0);
    vhost.refused = requests[_i];
    ck_assert(driver_start(&d, d.device, 0));
    ck_assert(driver_broken(&d) && !attached(0) && !attached(1));
    vhost.refused = 0;
    reset();
    ck_assert(driver_start(&d, d.device, 0));
    ck_assert(!driver_broken(&d) && attached(0) && attached(1));
}
END_TEST

START_TEST(no_vhost_here)
{
    vhost.open_error = EACCES;
    ck_assert_int_eq(create(), -EACCES);
    vhost.open_error = 0;
    vhost.can = BIT(VIRTIO_F_VERSION_1);
    ck_assert_int_eq(create(), -EOPNOTSUPP);
    ck_assert_uint_eq(closed, 0);
    vhost.can = ~0ull;
    ck_assert_int_eq(create(), 0); /* for teardown */
    ck_assert(driver_start(&d, d.device, 0));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("vhost_net");
    TCase *tests = tcase_create("vhost_net");

    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, queues_are_handed_over);
    tcase_add_test(tests, doorbells_are_left_to_vhost);
    tcase_add_test(tests, reset_takes_them_back);
    tcase_add_test(tests, rings_outside_ram_never_reach_it);
    tcase_add_test(tests, what_vhost_stumbles_over_breaks_the_card);
    tcase_add_test(tests, what_it_stumbled_over_goes_with_the_driver);
    tcase_add_loop_test(tests, a_vhost_that_refuses_breaks_the_card, 0, ARRAY_SIZE(requests));
    tcase_add_test(tests, no_vhost_here);
    suite_add_tcase(suite, tests);
    return unit_run(suite);
}
