/* SPDX-License-Identifier: MIT */
#include "vmm/run/initramfs.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>

#include "firmware/buffer.h"
#include "firmware/init/embedded.h"
#include "firmware/init/job.h"
#include "firmware/init/job_read.h"
#include "tests/unit/firmware.h"
#include "tests/unit/tree.h"
#include "tests/unit/unit.h"
#include "vmm/core/base.h"
#include "vmm/run/cpio.h"

static struct buffer archive;

static void set_up(void)
{
    archive = (struct buffer){ .limit = 16 * MIB };
    log_capture();
}

static void tear_down(void)
{
    buffer_finish(&archive);
}

struct packed {
    const char *name;
    const uint8_t *bytes;
    unsigned size, mode;
};

/* The file whose header is at `*at`, which moves behind it. False at the trailer. */
static bool next_file(size_t *at, struct packed *ret)
{
    unsigned fields[13];

    ck_assert_uint_le(*at + 110, archive.used);
    ck_assert_mem_eq(archive.data + *at, "070701", 6);
    for (unsigned i = 0; i < 13; i++) {
        char digits[9] = "";

        memcpy(digits, archive.data + *at + 6 + 8 * i, 8);
        fields[i] = (unsigned)strtoul(digits, NULL, 16);
    }
    ret->mode = fields[1];
    ret->size = fields[6];
    ret->name = (const char *)archive.data + *at + 110;
    ck_assert_uint_eq(strlen(ret->name) + 1, fields[11]);
    *at = align_up(*at + 110 + fields[11], 4);
    ret->bytes = archive.data + *at;
    *at = align_up(*at + fields[6], 4);
    ck_assert_uint_le(*at, archive.used);
    return strcmp(ret->name, "TRAILER!!!") != 0;
}

static struct packed packed(const char *name)
{
    struct packed file;
    size_t at = 0;

    while (next_file(&at, &file))
        if (!strcmp(file.name, name))
            return file;
    ck_abort_msg("there is no %s in the archive", name);
}

START_TEST(an_archive)
{
    cpio_add_directory(&archive, "d");
    cpio_add_file(&archive, "d/five", "12345", 5, 0600);
    cpio_add_file(&archive, "empty", "", 0, 0644);
    cpio_add_file(&archive, "a", "1234", 4, 0755); /* this header and this content end aligned */
    cpio_end(&archive);

    ck_assert(!archive.full);
    ck_assert_uint_eq(packed("d").mode, S_IFDIR | 0755);
    ck_assert_uint_eq(packed("d/five").mode, S_IFREG | 0600);
    ck_assert_uint_eq(packed("d/five").size, 5);
    ck_assert_mem_eq(packed("d/five").bytes, "12345", 5);
    ck_assert_uint_eq(packed("empty").size, 0);
    ck_assert_uint_eq(packed("a").size, 4);
    ck_assert_mem_eq(packed("a").bytes, "1234", 4);
    ck_assert_uint_eq(packed("a").mode, S_IFREG | 0755);
}
END_TEST

START_TEST(an_archive_too_large)
{
    static const uint8_t large[2000];

    archive.limit = 1000;
    cpio_add_file(&archive, "large", large, sizeof(large), 0644);
    ck_assert(archive.full);
    ck_assert_uint_le(archive.size, 1000);
}
END_TEST

static const char *const argv[] = { "sh", "-c", "echo \"$X\"\nexit 3", "", NULL };
static const char *const env[] = { "X==y =", "PATH=/bin", NULL };
static const char *const no_words[] = { NULL };

/* The orders in the archive, as the init reads them. */
static struct orders read_orders(void)
{
    struct packed file = packed("orders");
    static void *room;
    struct orders orders;

    free(room);
    ck_assert_uint_gt(file.size, 0);
    room = calloc(1, orders_room((const char *)file.bytes, file.size));
    ck_assert_ptr_null(orders_read(&orders, (const char *)file.bytes, file.size, room));
    return orders;
}

static void expect_list(const char *const *got, const char *const *wanted)
{
    for (; *wanted; wanted++, got++) {
        ck_assert_ptr_nonnull(*got);
        ck_assert_str_eq(*got, *wanted);
    }
    ck_assert_ptr_null(*got);
}

START_TEST(all_orders_arrive)
{
    static const struct initramfs_share shares[] = { { "one", "/a b", false },
                                                     { "two", "/c:d", true } };
    static const char *const wanted_shares[] = { "ro:one:/a b", "rw:two:/c:d", NULL };
    static const char *const wanted_groups[] = { "4", "4294967294", NULL };
    static const uint32_t groups[] = { 4, 4294967294 };
    const struct initramfs what = { .argv = argv,
                                    .env = env,
                                    .cwd = "/home/me",
                                    .hostname = "box",
                                    .uid = 1000,
                                    .gid = 100,
                                    .groups = groups,
                                    .group_count = 2,
                                    .tty = "hvc0",
                                    .rows = 24,
                                    .columns = 80,
                                    .input = INITRAMFS_PORT,
                                    .output = INITRAMFS_TTY,
                                    .shares = shares,
                                    .share_count = 2,
                                    .network = true };
    struct orders orders;

    ck_assert_int_eq(initramfs_build(&archive, &what), 0);
    orders = read_orders();
    expect_list(orders.lists[ORDERS_ARG], argv);
    expect_list(orders.lists[ORDERS_ENV], env);
    expect_list(orders.lists[ORDERS_SHARE], wanted_shares);
    expect_list(orders.lists[ORDERS_GROUP], wanted_groups);
    expect_list(orders.lists[ORDERS_MODULE], no_words);
    ck_assert_str_eq(orders.hostname, "box");
    ck_assert_str_eq(orders.network, "user");
    ck_assert_str_eq(orders.tty, "hvc0");
    ck_assert_str_eq(orders.winsize, "24:80");
    ck_assert_str_eq(orders.streams[0], "port");
    ck_assert_str_eq(orders.streams[1], "tty");
    ck_assert_str_eq(orders.streams[2], "null");
    ck_assert_str_eq(orders.cwd, "/home/me");
    ck_assert_uint_eq(orders.uid, 1000);
    ck_assert_uint_eq(orders.gid, 100);

    ck_assert_uint_eq(packed("init").mode, S_IFREG | 0755);
    ck_assert_uint_eq(packed("init").size, guest_init_size);
    ck_assert_mem_eq(packed("init").bytes, guest_init, guest_init_size);
    ck_assert_mem_eq(guest_init, "\x7f\x45LF", 4);
    ck_assert_uint_le(guest_init_size, 32 * KIB);
}
END_TEST

START_TEST(few_orders)
{
    const struct initramfs what = { .argv = argv, .env = no_words, .cwd = "/" };
    struct orders orders;

    ck_assert_int_eq(initramfs_build(&archive, &what), 0);
    orders = read_orders();
    expect_list(orders.lists[ORDERS_ENV], no_words);
    ck_assert_ptr_null(orders.hostname);
    ck_assert_ptr_null(orders.network);
    ck_assert_ptr_null(orders.tty);
    ck_assert_ptr_null(orders.winsize);
}
END_TEST

START_TEST(orders_nobody_knows)
{
    static const char bytes[] = "uid=5\0arg=x\0ARG=y";
    char room[1024] = "";
    struct orders orders;

    ck_assert_uint_le(orders_room(bytes, sizeof(bytes)), sizeof(room));
    ck_assert_str_eq(orders_read(&orders, bytes, sizeof(bytes), room), "ARG=y");
    ck_assert_ptr_null(orders_read(&orders, bytes, 12, room));
    ck_assert_uint_eq(orders.uid, 5);
    ck_assert_str_eq(orders.cwd, "/");
}
END_TEST

#define MODULE(name) "\0vermagic=6.1-x SMP \0name=" name

static void put_modules(const char *tree, bool all)
{
    tree_put_text(tree, "modules.builtin", "kernel/fs/fuse/virtiofs.ko\nkernel/fs/overlay.ko\n");
    tree_put_text(
        tree, "modules.dep",
        all ? "c/virtio_console.ko:\nm/virtio_mmio.ko: m/virtio_ring.ko\nm/virtio_ring.ko:\n"
            : "m/virtio_mmio.ko: m/virtio_ring.ko\nm/virtio_ring.ko:\n");
    tree_put(tree, "c/virtio_console.ko", MODULE("console"), sizeof(MODULE("console")));
    tree_put(tree, "m/virtio_mmio.ko", MODULE("mmio"), sizeof(MODULE("mmio")));
    tree_put(tree, "m/virtio_ring.ko", MODULE("ring"), sizeof(MODULE("ring")));
}

START_TEST(modules_in_the_order_of_loading)
{
    static const char *const wanted[] = { "virtio_ring", "virtio_mmio", "virtio_console", NULL };
    char tree[64];
    struct initramfs what = {
        .version = "6.1-x", .modules = tree, .argv = argv, .env = env, .cwd = "/"
    };

    tree_make(tree);
    put_modules(tree, true);
    ck_assert_int_eq(initramfs_build(&archive, &what), 0);
    expect_list(read_orders().lists[ORDERS_MODULE], wanted);
    ck_assert_uint_eq(packed("modules/virtio_ring").size, sizeof(MODULE("ring")));
    ck_assert_mem_eq(packed("modules/virtio_ring").bytes, MODULE("ring"), sizeof(MODULE("ring")));

    what.network = true; /* needs one that is not there */
    ck_assert_int_eq(initramfs_build(&archive, &what), -ENOENT);
    ck_assert(logged("has no virtio_net"));
    tree_remove(tree);
}
END_TEST

START_TEST(a_file_nobody_can_change)
{
    const struct initramfs what = { .argv = argv, .env = env, .cwd = "/" };
    uint8_t *bytes;
    int fd;

    ck_assert_int_eq(initramfs_create(&fd, &what), 0);
    ck_assert_int_eq(initramfs_build(&archive, &what), 0);
    ck_assert_int_eq(lseek(fd, 0, SEEK_END), (int)archive.used);
    bytes = mmap(NULL, archive.used, PROT_READ, MAP_PRIVATE, fd, 0);
    ck_assert_mem_eq(bytes, archive.data, archive.used);
    munmap(bytes, archive.used);
    ck_assert_int_lt(pwrite(fd, "x", 1, 0), 0);
    ck_assert_int_lt(ftruncate(fd, 0), 0);
    close(fd);
}
END_TEST

START_TEST(a_command_too_long)
{
    char *word = malloc(20 * MIB);
    const char *const words[] = { word, NULL };
    const struct initramfs what = { .argv = words, .env = env, .cwd = "/" };
    int fd;

    memset(word, 'x', 20 * MIB - 1);
    word[20 * MIB - 1] = '\0';
    ck_assert_int_eq(initramfs_create(&fd, &what), -ENOMEM);
    ck_assert(logged("initramfs"));
    free(word);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("initramfs");
    TCase *tests = tcase_create("initramfs");

    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_add_test(tests, an_archive);
    tcase_add_test(tests, an_archive_too_large);
    tcase_add_test(tests, all_orders_arrive);
    tcase_add_test(tests, few_orders);
    tcase_add_test(tests, orders_nobody_knows);
    tcase_add_test(tests, modules_in_the_order_of_loading);
    tcase_add_test(tests, a_file_nobody_can_change);
    tcase_add_test(tests, a_command_too_long);
    suite_add_tcase(suite, tests);
    return unit_run(suite);
}
