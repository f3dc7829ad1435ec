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
#include "vmm/core/clock.h"
#include "vmm/core/endian.h"
#include "vmm/core/state.h"

#define TAP 1234 /* not a descriptor: only passed on */

/* A fake /dev/vhost-net that records its ioctls. */
static struct kernel {
    int open_error;
    uint64_t can;          /* VHOST_GET_FEATURES */
    unsigned long refused; /* the ioctl that fails */
    unsigned owners, tables;
    uint64_t features;
    struct vhost_memory_region ram;
    struct {
        unsigned size;
        struct vhost_vring_addr addr;
        unsigned base; /* VHOST_GET_VRING_BASE */
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
    struct vhost_vring_state *state = arg;

    switch (request) {
    case VHOST_GET_FEATURES:
        *(uint64_t *)arg = vhost.can;
        break;
    case VHOST_SET_FEATURES:
        vhost.features = *(uint64_t *)arg;
        break;
    case VHOST_SET_OWNER:
        ck_assert_uint_eq(vhost.owners++, 0); /* a second one fails with EBUSY in the kernel */
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
        ck_assert_int_eq(vhost.queues[state->index].backend, -1);
        vhost.queues[state->index].base = state->num;
        break;
    case VHOST_GET_VRING_BASE:
        ck_assert_int_eq(vhost.queues[state->index].backend, -1);
        state->num = vhost.queues[state->index].base;
        break;
    default:
        note_file(request, arg);
    }
}

/* Replaces libc's. */
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
    vhost = (struct kernel){ .can = ~0ull };
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

START_TEST(start_hands_the_queues_to_vhost)
{
    ck_assert_int_eq(create(), 0);
    ck_assert(!attached(0) && vhost.owners == 0); /* not before a driver starts */
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
        ck_assert_uint_eq(vhost.queues[i].base, 0);
        ck_assert_int_eq(vhost.queues[i].kick, virtio_kick_fd(d.device, i));
        ck_assert_int_eq(vhost.queues[i].call, d.call_fd[i]);
        ck_assert_ptr_eq((void *)(uintptr_t)addr->desc_user_addr, driver_ram(&d, layout->desc));
        ck_assert_ptr_eq((void *)(uintptr_t)addr->avail_user_addr, driver_ram(&d, layout->avail));
        ck_assert_ptr_eq((void *)(uintptr_t)addr->used_user_addr, driver_ram(&d, layout->used));
    }
}
END_TEST

START_TEST(notifications_are_left_to_vhost)
{
    uint64_t count;

    ck_assert_int_eq(create(), 0);
    ck_assert(driver_start(&d, d.device, 0));
    driver_kick(&d, 1);
    ck_assert_int_eq(read(vhost.queues[1].kick, &count, sizeof(count)), sizeof(count));
}
END_TEST

START_TEST(reset_detaches_the_queues)
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

START_TEST(rings_outside_ram_are_not_passed_to_vhost)
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

/* Signals a queue's error fd; the loop has not read it yet. */
static void start_and_signal_error(void)
{
    uint64_t one = 1;

    ck_assert_int_eq(create(), 0);
    ck_assert(driver_start(&d, d.device, 0));
    ck_assert_int_eq(write(vhost.queues[1].err, &one, sizeof(one)), sizeof(one));
}

START_TEST(an_error_from_vhost_breaks_the_queue)
{
    start_and_signal_error();
    loop_turn(d.loop, 0);
    ck_assert(driver_broken(&d) && !attached(1));
    ck_assert_uint_eq(d.config_changes, 1);
    reset();
    ck_assert(driver_start(&d, d.device, 0));
    ck_assert(!driver_broken(&d) && attached(1));
}
END_TEST

START_TEST(a_pending_error_is_discarded_by_a_reset)
{
    start_and_signal_error();
    reset();
    ck_assert(driver_start(&d, d.device, 0));
    loop_turn(d.loop, 0);
    ck_assert(!driver_broken(&d) && attached(1));
}
END_TEST

static const unsigned long requests[] = { VHOST_SET_OWNER,      VHOST_SET_MEM_TABLE,
                                          VHOST_SET_FEATURES,   VHOST_SET_VRING_NUM,
                                          VHOST_SET_VRING_CALL, VHOST_NET_SET_BACKEND };

START_TEST(a_failing_start_breaks_the_nic)
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

/* vhost serves a queue's requests up to index `idx`. */
static void serve(unsigned queue, uint16_t idx)
{
    vhost.queues[queue].base = idx;
    le16_store(driver_ram(&d, d.device->queues[queue].layout.used + 2), idx);
}

static void pause_nic(void)
{
    ck_assert_int_eq(virtio_pause(d.device, clock_now_ns() + 1000000000), 0);
}

static bool kicked(unsigned queue)
{
    uint64_t count;

    return read(vhost.queues[queue].kick, &count, sizeof(count)) == sizeof(count);
}

START_TEST(a_pause_detaches_the_queues_until_resume)
{
    ck_assert_int_eq(create(), 0);
    ck_assert(driver_start(&d, d.device, BIT(VIRTIO_NET_F_CSUM)));
    serve(0, 5);
    serve(1, 0xfffe);
    pause_nic();
    ck_assert(!attached(0) && !attached(1));
    ck_assert(!d.call_fd[0] && !d.call_fd[1]);
    ck_assert_uint_eq(virtq_position(virtio_virtq(d.device, 1)).next_avail, 0xfffe);
    ck_assert_uint_eq(virtq_position(virtio_virtq(d.device, 1)).next_used, 0xfffe);
    ck_assert_uint_eq(d.interrupts, 0);
    vhost.queues[0].base = vhost.queues[1].base = 77;

    virtio_resume(d.device);
    ck_assert(attached(0) && attached(1));
    ck_assert_uint_eq(vhost.queues[0].base, 5);
    ck_assert_uint_eq(vhost.queues[1].base, 0xfffe);
    ck_assert_int_eq(vhost.queues[1].call, d.call_fd[1]);
    ck_assert(kicked(0) && kicked(1));
    ck_assert_uint_eq(d.interrupts, 2);
    ck_assert_uint_eq(vhost.owners, 1);
    serve(0, 6);
    pause_nic();
    virtio_resume(d.device);
    ck_assert_uint_eq(vhost.queues[0].base, 6);
    ck_assert(!driver_broken(&d));
}
END_TEST

static void walk(struct virtio_device *v, struct state *s)
{
    state_section(s, "net0", 1);
    virtio_state(v, s);
    state_end_section(s);
}

/* Replaces the NIC by a new one, as in another process, and loads its state. */
static int move(void)
{
    struct virtio_device *old = d.device;
    struct state saved, in;
    int error;

    state_begin_save(&saved);
    walk(old, &saved);
    ck_assert_int_eq(saved.error, 0);
    virtio_destroy(old);
    vhost = (struct kernel){ .can = ~0ull, .queues = { { .backend = -1 }, { .backend = -1 } } };
    offloads = 0;
    ck_assert_int_eq(create(), 0);
    driver_find(&d, d.device);
    state_begin_load(&in, saved.bytes, saved.at);
    walk(d.device, &in);
    error = state_finish(&in);
    state_finish(&saved);
    return error;
}

START_TEST(another_nic_continues_from_the_state)
{
    ck_assert_int_eq(create(), 0);
    ck_assert(driver_start(&d, d.device, BIT(VIRTIO_NET_F_CSUM)));
    serve(0, 5);
    serve(1, 9);
    pause_nic();
    ck_assert_int_eq(move(), 0);
    ck_assert_uint_eq(vhost.owners, 0);
    virtio_resume(d.device);
    ck_assert(attached(0) && attached(1));
    ck_assert_uint_eq(vhost.owners, 1);
    ck_assert_uint_eq(vhost.tables, 1);
    ck_assert_uint_eq(vhost.features, BIT(VIRTIO_F_VERSION_1));
    ck_assert_uint_eq(vhost.queues[0].base, 5);
    ck_assert_uint_eq(vhost.queues[1].base, 9);
    ck_assert_uint_ne(offloads & BIT(VIRTIO_NET_F_CSUM), 0);
    ck_assert_uint_eq(d.interrupts, 2);
    ck_assert(kicked(0) && kicked(1));
}
END_TEST

START_TEST(a_used_index_forged_by_the_guest)
{
    ck_assert_int_eq(create(), 0);
    ck_assert(driver_start(&d, d.device, 0));
    serve(0, 5);
    vhost.queues[0].base = 4;
    pause_nic();
    virtio_resume(d.device); /* harmless in the same vhost */
    ck_assert(attached(0) && !driver_broken(&d));
    pause_nic();
    ck_assert_int_eq(move(), -EINVAL);
}
END_TEST

START_TEST(a_failing_resume_breaks_the_nic)
{
    ck_assert_int_eq(create(), 0);
    ck_assert(driver_start(&d, d.device, 0));
    pause_nic();
    ck_assert_int_eq(move(), 0);
    vhost.refused = requests[_i];
    virtio_resume(d.device);
    ck_assert(driver_broken(&d) && !attached(0) && !attached(1));
    ck_assert_uint_eq(d.interrupts, 0);
    vhost.refused = 0;
    reset();
    ck_assert(driver_start(&d, d.device, 0));
    ck_assert(!driver_broken(&d) && attached(0) && attached(1));
}
END_TEST

START_TEST(a_failing_get_vring_base_breaks_the_nic)
{
    ck_assert_int_eq(create(), 0);
    ck_assert(driver_start(&d, d.device, 0));
    vhost.refused = VHOST_GET_VRING_BASE;
    pause_nic();
    ck_assert(driver_broken(&d) && !attached(0) && !attached(1));
    virtio_resume(d.device);
    ck_assert(driver_broken(&d) && !attached(0) && !attached(1));
}
END_TEST

START_TEST(a_pending_error_is_part_of_the_state)
{
    start_and_signal_error();
    pause_nic();
    ck_assert(driver_broken(&d) && !attached(1));
    ck_assert_int_eq(move(), 0);
    virtio_resume(d.device);
    ck_assert(driver_broken(&d) && attached(0) && !attached(1));
}
END_TEST

START_TEST(reset_while_paused)
{
    ck_assert_int_eq(create(), 0);
    ck_assert(driver_start(&d, d.device, 0));
    serve(0, 5);
    pause_nic();
    reset();
    virtio_resume(d.device);
    ck_assert(!attached(0) && !attached(1));
    ck_assert(driver_start(&d, d.device, 0));
    ck_assert(attached(0) && attached(1));
    ck_assert_uint_eq(vhost.queues[0].base, 0);
}
END_TEST

START_TEST(no_vhost_on_this_host)
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
    tcase_add_test(tests, start_hands_the_queues_to_vhost);
    tcase_add_test(tests, notifications_are_left_to_vhost);
    tcase_add_test(tests, reset_detaches_the_queues);
    tcase_add_test(tests, rings_outside_ram_are_not_passed_to_vhost);
    tcase_add_test(tests, an_error_from_vhost_breaks_the_queue);
    tcase_add_test(tests, a_pending_error_is_discarded_by_a_reset);
    tcase_add_loop_test(tests, a_failing_start_breaks_the_nic, 0, ARRAY_SIZE(requests));
    tcase_add_test(tests, a_pause_detaches_the_queues_until_resume);
    tcase_add_test(tests, another_nic_continues_from_the_state);
    tcase_add_test(tests, a_used_index_forged_by_the_guest);
    tcase_add_loop_test(tests, a_failing_resume_breaks_the_nic, 0, ARRAY_SIZE(requests));
    tcase_add_test(tests, a_failing_get_vring_base_breaks_the_nic);
    tcase_add_test(tests, a_pending_error_is_part_of_the_state);
    tcase_add_test(tests, reset_while_paused);
    tcase_add_test(tests, no_vhost_on_this_host);
    suite_add_tcase(suite, tests);
    return unit_run(suite);
}
