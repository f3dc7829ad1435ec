/* SPDX-License-Identifier: MIT */
#include "vmm/board/board.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <linux/virtio_config.h>
#include <linux/virtio_mmio.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "devices/chips/vmgenid.h"
#include "devices/console/terminal.h"
#include "tests/unit/host.h"
#include "tests/unit/notifiers.h"
#include "tests/unit/tree.h"
#include "tests/unit/unit.h"
#include "vmm/board/parts.h"
#include "vmm/config/config.h"
#include "vmm/core/base.h"
#include "vmm/core/clock.h"
#include "vmm/core/device.h"
#include "vmm/core/endian.h"
#include "vmm/core/loop.h"
#include "vmm/core/state.h"

/*
 * Builds a whole board of this architecture without KVM, as machine.c does, and a second one like
 * it. The second loads the state that the first saved, and must save the same bytes.
 */
#define RINGS      0x100000u /* from the start of RAM */
#define RING_STEP  0x8000u   /* from queue to queue */
#define AVAIL      0x4000u
#define USED       0x6000u
#define QUEUE_SIZE 16
#define MEMORY     (64 * MIB)

static char directory[sizeof(TREE_TEMPLATE)], disk[64];
static struct config config;

struct made {
    struct board board;
    struct guest_memory *mem;
    struct loop *loop;
};

static unsigned edges[64]; /* by pin */

static void set_irq(void *chip, uint32_t pin, bool level)
{
    edges[pin] += level;
}

static void report(void *owner, enum guest_event event, unsigned code)
{
}

static void quit(void *owner)
{
}

/* qemu-user lacks openat2, which a share needs. */
static bool can_share(void)
{
    struct open_how how = { .flags = O_PATH };
    long fd = syscall(SYS_openat2, AT_FDCWD, "/", &how, sizeof(how));

    if (fd >= 0)
        close((int)fd);
    else
        printf("# no openat2 here (%s): a board without a share\n", strerror(errno));
    return fd >= 0;
}

/* One device of each kind. The disk is read-only, so that both boards may open it. */
static void configure(void)
{
    struct disk_config *image;
    struct share_config *share;
    struct port_config *port;

    tree_make(directory);
    tree_put(directory, "disk", "", 1);
    snprintf(disk, sizeof(disk), "%s/disk", directory);
    ck_assert_int_eq(truncate(disk, MIB), 0);

    ck_assert_int_eq(config_set_defaults(&config), 0);
    config.kernel = "none";
    config.memory = MEMORY;
    config.balloon = true;
    config.serial.kind = config.console.kind = CONSOLE_FD;
    config.serial.fd = config.console.fd = -1;
    ck_assert_ptr_nonnull(image = config_add_disk(&config));
    image->image.path = disk;
    image->image.read_only = true;
    ck_assert_ptr_nonnull(port = config_add_port(&config));
    port->name = "org.test";
    if (can_share()) {
        ck_assert_ptr_nonnull(share = config_add_share(&config));
        share->directory.path = directory;
    }
    config_complete(&config);
}

static void forget(void)
{
    config_finish(&config);
    tree_remove(directory);
}

static void make(struct made *m)
{
    const struct hardware *hw = &m->board.hardware;
    const struct terminal_config terminal = { .quit = quit };
    struct board_host host = { .events = { .report = report },
                               .irq = { .set = set_irq },
                               .notifiers = no_notifiers };

    ck_assert_int_eq(parts_describe(&m->board, &config), 0);
    host.loop = m->loop = loop_create();
    host.memory = m->mem = guest_memory_create();
    for (unsigned i = 0; i < hw->ram_ranges; i++)
        ck_assert_int_eq(guest_memory_add(m->mem, hw->ram[i].base, hw->ram[i].size, NULL), 0);
    ck_assert_int_eq(parts_start(&m->board), 0);
    ck_assert_int_eq(parts_create(&m->board, &host, &terminal), 0);
    ck_assert_int_eq(board_start(&m->board), 0);
    ck_assert_int_eq(parts_wait(&m->board), 0);
}

static void destroy(struct made *m)
{
    board_destroy(&m->board);
    loop_destroy(m->loop);
    guest_memory_destroy(m->mem);
}

static void write_register(struct made *m, const struct hardware_device *place, unsigned reg,
                           uint64_t value)
{
    bus_write(&m->board.mmio, place->base + reg, 4, value);
}

static uint32_t read_register(struct made *m, const struct hardware_device *place, unsigned reg)
{
    return (uint32_t)bus_read(&m->board.mmio, place->base + reg, 4);
}

static void accept_features(struct made *m, const struct hardware_device *place)
{
    for (unsigned half = 0; half < 2; half++) {
        write_register(m, place, VIRTIO_MMIO_DEVICE_FEATURES_SEL, half);
        write_register(m, place, VIRTIO_MMIO_DRIVER_FEATURES_SEL, half);
        write_register(m, place, VIRTIO_MMIO_DRIVER_FEATURES,
                       read_register(m, place, VIRTIO_MMIO_DEVICE_FEATURES));
    }
}

/* A driver initializes the device: all features, all queues, each with rings of its own. */
static unsigned drive(struct made *m, const struct hardware_device *place, unsigned rings)
{
    uint64_t ram = m->board.hardware.ram[0].base + RINGS;

    write_register(m, place, VIRTIO_MMIO_STATUS, 1);
    write_register(m, place, VIRTIO_MMIO_STATUS, 3);
    accept_features(m, place);
    write_register(m, place, VIRTIO_MMIO_STATUS, 11);
    for (unsigned queue = 0;; queue++) {
        uint64_t at = ram + (uint64_t)rings * RING_STEP;

        write_register(m, place, VIRTIO_MMIO_QUEUE_SEL, queue);
        if (read_register(m, place, VIRTIO_MMIO_QUEUE_NUM_MAX) == 0)
            break;
        rings++;
        write_register(m, place, VIRTIO_MMIO_QUEUE_NUM, QUEUE_SIZE);
        write_register(m, place, VIRTIO_MMIO_QUEUE_DESC_LOW, at);
        write_register(m, place, VIRTIO_MMIO_QUEUE_AVAIL_LOW, at + AVAIL);
        write_register(m, place, VIRTIO_MMIO_QUEUE_USED_LOW, at + USED);
        write_register(m, place, VIRTIO_MMIO_QUEUE_READY, 1);
    }
    write_register(m, place, VIRTIO_MMIO_STATUS, 15);
    ck_assert_uint_eq(read_register(m, place, VIRTIO_MMIO_STATUS), 15);
    return rings;
}

static void drive_all(struct made *m)
{
    const struct hardware *hw = &m->board.hardware;
    unsigned rings = 0;

    for (unsigned i = 0; i < hw->virtio_count; i++)
        if (hw->virtio[i].size > 0) /* without libslirp there is no NIC */
            rings = drive(m, &hw->virtio[i], rings);
}

/* Writes to registers of every chip, so that it has state worth saving. */
static void scribble(struct made *m)
{
    struct bus *bus = m->board.ports.count ? &m->board.ports : &m->board.mmio;
    const struct hardware_device *serial = &m->board.hardware.serial;

    for (unsigned reg = 1; reg < 8; reg++)
        bus_write(bus, serial->base + (m->board.ports.count ? reg : reg * 4 + 0x20), 1, reg);
}

static void rest(struct made *m)
{
    const char *busy = "";

    ck_assert_int_eq(board_pause(&m->board, clock_now_ns() + 20000000000ull, &busy), 0);
}

static void save(struct made *m, struct state *s)
{
    state_begin_save(s);
    board_state(&m->board, s);
    ck_assert_str_eq(s->why, "");
}

static void load(struct made *m, const struct state *saved)
{
    struct state s;

    state_begin_load(&s, saved->bytes, saved->at);
    board_state(&m->board, &s);
    state_finish(&s);
    ck_assert_str_eq(s.why, "");
}

static void check_saved_loaded_saved(struct made *from)
{
    struct state saved, again;
    struct made to;

    make(&to);
    memcpy(guest_memory_region(to.mem, 0)->host, guest_memory_region(from->mem, 0)->host,
           guest_memory_region(to.mem, 0)->size);
    rest(from);
    rest(&to);
    save(from, &saved);
    load(&to, &saved);
    save(&to, &again);
    ck_assert_uint_eq(again.at, saved.at);
    ck_assert_mem_eq(again.bytes, saved.bytes, saved.at);
    state_finish(&saved);
    state_finish(&again);
    board_resume(&from->board);
    board_resume(&to.board);
    destroy(&to);
}

static unsigned devices_of(const struct board *board)
{
    unsigned count = 0;

    for (const struct device *device = board->devices; device; device = device->next)
        count++;
    return count;
}

START_TEST(a_new_board_loads_what_another_saved)
{
    struct made m;

    make(&m);
    ck_assert_uint_ge(devices_of(&m.board), m.board.hardware.virtio_count + 3);
    check_saved_loaded_saved(&m);
    destroy(&m);
}
END_TEST

START_TEST(a_board_with_drivers_loads_what_another_saved)
{
    struct made m;

    make(&m);
    drive_all(&m);
    scribble(&m);
    check_saved_loaded_saved(&m);
    destroy(&m);
}
END_TEST

/* Reads the disk's first sector by a request at head 0. */
static void read_disk(struct made *m, unsigned number)
{
    const struct hardware *hw = &m->board.hardware;
    uint64_t rings = hw->ram[0].base + RINGS, buffer = hw->ram[0].base + 0x80000;
    const struct {
        uint64_t addr;
        uint32_t len;
        uint16_t flags, next;
    } descriptors[] = { { htole64(buffer), htole32(16), htole16(1), htole16(1) },
                        { htole64(buffer + 512), htole32(512), htole16(3), htole16(2) },
                        { htole64(buffer + 1024), htole32(1), htole16(2), 0 } };
    const le16 *used = guest_ptr(m->mem, rings + USED + 2, 2);
    le16 *avail = guest_ptr(m->mem, rings + AVAIL + 2, 2);

    ck_assert_int_eq(guest_write(m->mem, buffer, (uint8_t[16]){ 0 }, 16), 0);
    ck_assert_int_eq(guest_write(m->mem, rings, descriptors, sizeof(descriptors)), 0);
    le16_store_release(avail, (uint16_t)(number + 1));
    write_register(m, &hw->virtio[0], VIRTIO_MMIO_QUEUE_NOTIFY, 0);
    for (unsigned i = 0; i < 20000 && le16_load_acquire(used) != number + 1; i++)
        usleep(1000);
    ck_assert_uint_eq(le16_load_acquire(used), number + 1);
}

START_TEST(a_driver_continues_on_the_second_board)
{
    struct made from, to;
    struct state saved;

    make(&from);
    drive_all(&from);
    for (unsigned i = 0; i < 20; i++) /* until the rings have wrapped */
        read_disk(&from, i);
    make(&to);
    rest(&from);
    rest(&to);
    save(&from, &saved);
    load(&to, &saved);
    state_finish(&saved);
    memcpy(guest_memory_region(to.mem, 0)->host, guest_memory_region(from.mem, 0)->host,
           guest_memory_region(to.mem, 0)->size);
    destroy(&from);
    board_resume(&to.board);
    for (unsigned i = 20; i < 40; i++)
        read_disk(&to, i);
    destroy(&to);
}
END_TEST

static void read_generation(struct made *m, uint8_t id[VMGENID_SIZE])
{
    uint64_t at = m->board.hardware.vmgenid.base;

    ck_assert_int_eq(guest_read(m->mem, at, id, VMGENID_SIZE), 0);
}

START_TEST(the_second_board_has_another_generation)
{
    uint8_t first[VMGENID_SIZE], second[VMGENID_SIZE];
    struct made from, to;
    struct state saved;

    make(&from);
    board_boot(&from.board);
    make(&to);
    rest(&from);
    rest(&to);
    save(&from, &saved);
    load(&to, &saved);
    state_finish(&saved);
    board_resume(&from.board);
    ck_assert_uint_eq(edges[from.board.hardware.vmgenid.gsi], 0);
    board_resume(&to.board);
    ck_assert_uint_eq(edges[from.board.hardware.vmgenid.gsi], 1);
    read_generation(&from, first);
    read_generation(&to, second);
    ck_assert_mem_ne(first, second, sizeof(first));
    destroy(&to);
    destroy(&from);
}
END_TEST

/* It knows nothing of the page, which the guest uses as RAM. */
START_TEST(a_users_device_tree_has_no_generation)
{
    struct made m;

    config.dtb = "mine.dtb";
    make(&m);
    ck_assert_uint_eq(m.board.hardware.vmgenid.size, 0);
    ck_assert_ptr_null(m.board.vmgenid);
    board_boot(&m.board);
    destroy(&m);
}
END_TEST

START_TEST(the_state_of_a_different_board_is_refused)
{
    struct made from, to;
    struct state saved, s;

    make(&from);
    rest(&from);
    save(&from, &saved);
    config.rng = false;
    make(&to);
    rest(&to);
    state_begin_load(&s, saved.bytes, saved.at);
    board_state(&to.board, &s);
    ck_assert_int_eq(state_finish(&s), -EINVAL);
    ck_assert_ptr_nonnull(strstr(s.why, "rng0"));
    state_finish(&saved);
    destroy(&to);
    destroy(&from);
}
END_TEST

START_TEST(two_ports_share_an_output)
{
    struct host_pipe pipe = host_pipe();
    struct port_config *port;
    struct made made;
    char bytes[8];

    config.ports->output = pipe.writer;
    ck_assert_ptr_nonnull(port = config_add_port(&config));
    port->name = "org.other";
    port->output = pipe.writer;
    make(&made);
    for (unsigned i = 0; i < 2; i++) {
        terminal_write(made.board.streams[i], "x", 1);
        ck_assert_int_eq(read(pipe.reader, bytes, sizeof(bytes)), 1);
    }
    destroy(&made);
    ck_assert_int_eq(read(pipe.reader, bytes, sizeof(bytes)), 0);
    close(pipe.reader);
}
END_TEST

START_TEST(as_many_devices_as_there_are_places)
{
    struct board board;
    const struct hardware *hw = &board.hardware;

    ck_assert_int_eq(parts_describe(&board, &config), 0);
    while (hw->virtio_count < HARDWARE_MAX_VIRTIO) {
        ck_assert_ptr_nonnull(config_add_disk(&config));
        ck_assert_int_eq(parts_describe(&board, &config), 0);
    }
    for (unsigned i = 0; i < hw->virtio_count; i++) {
        const struct hardware_device *place = &hw->virtio[i];

        ck_assert_uint_ge(place->base, hw->virtio_pages.base);
        ck_assert_uint_le(place->base - hw->virtio_pages.base + place->size, hw->virtio_pages.size);
        for (unsigned j = 0; j < i; j++)
            ck_assert(place->base != hw->virtio[j].base && place->gsi != hw->virtio[j].gsi);
    }
    ck_assert_ptr_nonnull(config_add_disk(&config));
    ck_assert_int_eq(parts_describe(&board, &config), -ENOSPC);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("board");
    TCase *tcase = tcase_create("board");

    tcase_set_timeout(tcase, 60);
    tcase_add_checked_fixture(tcase, configure, forget);
    tcase_add_test(tcase, a_new_board_loads_what_another_saved);
    tcase_add_test(tcase, a_board_with_drivers_loads_what_another_saved);
    tcase_add_test(tcase, a_driver_continues_on_the_second_board);
    tcase_add_test(tcase, the_second_board_has_another_generation);
    tcase_add_test(tcase, a_users_device_tree_has_no_generation);
    tcase_add_test(tcase, the_state_of_a_different_board_is_refused);
    tcase_add_test(tcase, two_ports_share_an_output);
    tcase_add_test(tcase, as_many_devices_as_there_are_places);
    suite_add_tcase(suite, tcase);
    return unit_run(suite);
}
