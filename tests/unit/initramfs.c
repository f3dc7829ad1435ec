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
#include "vmm/run/etc.h"

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

/* Parses the file at offset `*at` and moves `*at` to the next one. False at the trailer. */
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
    ck_abort_msg("no %s in the archive", name);
}

START_TEST(an_archive)
{
    cpio_add_directory(&archive, "d");
    cpio_add_file(&archive, "d/five", "12345", 5, 0600);
    cpio_add_file(&archive, "empty", "", 0, 0644);
    cpio_add_file(&archive, "a", "1234", 4, 0755); /* needs no padding */
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

START_TEST(an_archive_that_is_too_large)
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

static struct job read_job(void)
{
    struct packed file = packed("job");
    static void *scratch;
    struct job job;

    free(scratch);
    ck_assert_uint_gt(file.size, 0);
    scratch = calloc(1, job_scratch_size((const char *)file.bytes, file.size));
    ck_assert_ptr_null(job_read(&job, (const char *)file.bytes, file.size, scratch));
    return job;
}

static void expect_list(const char *const *got, const char *const *wanted)
{
    for (; *wanted; wanted++, got++) {
        ck_assert_ptr_nonnull(*got);
        ck_assert_str_eq(*got, *wanted);
    }
    ck_assert_ptr_null(*got);
}

START_TEST(the_whole_job_arrives)
{
    static const struct initramfs_share shares[] = { { "one", "/a b", false },
                                                     { "two", "/c:d", true } };
    static const char *const wanted_shares[] = { "ro:one:/a b", "rw:two:/c:d", NULL };
    static const char *const wanted_groups[] = { "4", "4294967294", NULL };
    static const uint32_t groups[] = { 4, 4294967294 };
    static char hosts[] = "a\nb:c\n", resolver[] = "d\n";
    static const struct etc etc = { .hosts = hosts, .resolver = resolver, .ipv6 = true };
    static const char *const wanted_files[] = { "/etc/hosts:a\nb:c\n", "/etc/resolv.conf:d\n",
                                                NULL };
    static const char *const run[] = { "current-system", "a b", NULL };
    const struct initramfs spec = { .argv = argv,
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
                                    .run = run,
                                    .network = "eth3",
                                    .etc = &etc };
    struct job job;

    ck_assert_int_eq(initramfs_build(&archive, &spec), 0);
    job = read_job();
    expect_list(job.lists[JOB_ARG], argv);
    expect_list(job.lists[JOB_ENV], env);
    expect_list(job.lists[JOB_SHARE], wanted_shares);
    expect_list(job.lists[JOB_RUN], run);
    expect_list(job.lists[JOB_CONTENT], wanted_files);
    ck_assert_ptr_nonnull(job.ipv6);
    expect_list(job.lists[JOB_GROUP], wanted_groups);
    expect_list(job.lists[JOB_MODULE], no_words);
    ck_assert_str_eq(job.hostname, "box");
    ck_assert_str_eq(job.network, "eth3");
    ck_assert_str_eq(job.tty, "hvc0");
    ck_assert_str_eq(job.winsize, "24:80");
    ck_assert_str_eq(job.streams[0], "port");
    ck_assert_str_eq(job.streams[1], "tty");
    ck_assert_str_eq(job.streams[2], "null");
    ck_assert_str_eq(job.cwd, "/home/me");
    ck_assert_uint_eq(job.uid, 1000);
    ck_assert_uint_eq(job.gid, 100);

    ck_assert_uint_eq(packed("init").mode, S_IFREG | 0755);
    ck_assert_uint_eq(packed("init").size, init_program_size);
    ck_assert_mem_eq(packed("init").bytes, init_program, init_program_size);
    ck_assert_mem_eq(init_program, "\x7f\x45LF", 4);
    ck_assert_uint_le(init_program_size, 32 * KIB);
}
END_TEST

START_TEST(a_small_job)
{
    const struct initramfs spec = { .argv = argv, .env = no_words, .cwd = "/" };
    struct job job;

    ck_assert_int_eq(initramfs_build(&archive, &spec), 0);
    job = read_job();
    expect_list(job.lists[JOB_ENV], no_words);
    ck_assert_ptr_null(job.hostname);
    ck_assert_ptr_null(job.network);
    ck_assert_ptr_null(job.tty);
    ck_assert_ptr_null(job.winsize);
    ck_assert_ptr_null(job.freeze);
}
END_TEST

START_TEST(a_job_before_and_after_a_freeze)
{
    struct initramfs spec = {
        .argv = argv, .env = no_words, .cwd = "/", .freeze = true, .hook = "a"
    };
    struct job job;

    ck_assert_int_eq(initramfs_build(&archive, &spec), 0);
    job = read_job();
    ck_assert_ptr_nonnull(job.freeze);
    ck_assert_str_eq(job.hook, "a");
    archive.used = 0;
    spec = (struct initramfs){ .argv = argv, .env = no_words };
    ck_assert_int_eq(initramfs_build(&archive, &spec), 0);
    job = read_job();
    ck_assert_ptr_null(job.freeze);
    ck_assert_ptr_null(job.cwd);
}
END_TEST

START_TEST(an_unknown_key)
{
    static const char bytes[] = "uid=5\0arg=x\0ARG=y";
    char scratch[1024] = "";
    struct job job;

    ck_assert_uint_le(job_scratch_size(bytes, sizeof(bytes)), sizeof(scratch));
    ck_assert_str_eq(job_read(&job, bytes, sizeof(bytes), scratch), "ARG=y");
    ck_assert_ptr_null(job_read(&job, bytes, 12, scratch));
    ck_assert_uint_eq(job.uid, 5);
    ck_assert_ptr_null(job.cwd);
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
    static const char *const wanted_nodes[] = { "c:10:200:net/tun", NULL };
    char tree[64];
    struct initramfs spec = {
        .version = "6.1-x", .modules = tree, .argv = argv, .env = env, .cwd = "/"
    };

    tree_make(tree);
    put_modules(tree, true);
    tree_put_text(tree, "modules.devname", "tun net/tun c10:200\n");
    ck_assert_int_eq(initramfs_build(&archive, &spec), 0);
    expect_list(read_job().lists[JOB_MODULE], wanted);
    ck_assert_uint_eq(packed("modules/virtio_ring").size, sizeof(MODULE("ring")));
    ck_assert_mem_eq(packed("modules/virtio_ring").bytes, MODULE("ring"), sizeof(MODULE("ring")));
    expect_list(read_job().lists[JOB_NODE], wanted_nodes);

    spec.nic = true; /* needs a driver that is not there */
    ck_assert_int_eq(initramfs_build(&archive, &spec), -ENOENT);
    ck_assert(logged("has no virtio_net"));
    tree_remove(tree);
}
END_TEST

START_TEST(a_driver_only_for_a_device_that_is_there)
{
    static const char *const without[] = { "virtio_ring", "virtio_mmio", "virtio_console", NULL };
    static const char *const with[] = { "virtio_ring", "virtio_mmio", "virtio_console",
                                        "virtio_balloon", NULL };
    char tree[64];
    struct initramfs spec = {
        .version = "6.1-x", .modules = tree, .argv = argv, .env = env, .cwd = "/"
    };

    tree_make(tree);
    put_modules(tree, true);
    for (unsigned i = 0; i < 4; i++) {
        if (i == 2) { /* the first kernel has none, and needs none */
            tree_put_text(tree, "modules.dep",
                          "c/virtio_console.ko:\nm/virtio_mmio.ko: m/virtio_ring.ko\n"
                          "m/virtio_ring.ko:\nv/virtio_balloon.ko: m/virtio_ring.ko\n");
            tree_put(tree, "v/virtio_balloon.ko", MODULE("balloon"), sizeof(MODULE("balloon")));
        }
        spec.balloon = i % 2;
        buffer_finish(&archive);
        set_up();
        ck_assert_int_eq(initramfs_build(&archive, &spec), 0);
        expect_list(read_job().lists[JOB_MODULE], i == 3 ? with : without);
    }
    tree_remove(tree);
}
END_TEST

START_TEST(the_file_is_sealed)
{
    const struct initramfs spec = { .argv = argv, .env = env, .cwd = "/" };
    uint8_t *bytes;
    int fd;

    ck_assert_int_eq(initramfs_create(&fd, &spec), 0);
    ck_assert_int_eq(initramfs_build(&archive, &spec), 0);
    ck_assert_int_eq(lseek(fd, 0, SEEK_END), (int)archive.used);
    bytes = mmap(NULL, archive.used, PROT_READ, MAP_PRIVATE, fd, 0);
    ck_assert_mem_eq(bytes, archive.data, archive.used);
    munmap(bytes, archive.used);
    ck_assert_int_lt(pwrite(fd, "x", 1, 0), 0);
    ck_assert_int_lt(ftruncate(fd, 0), 0);
    close(fd);
}
END_TEST

START_TEST(a_command_that_is_too_long)
{
    char *word = malloc(20 * MIB);
    const char *const words[] = { word, NULL };
    const struct initramfs spec = { .argv = words, .env = env, .cwd = "/" };
    int fd;

    memset(word, 'x', 20 * MIB - 1);
    word[20 * MIB - 1] = '\0';
    ck_assert_int_eq(initramfs_create(&fd, &spec), -ENOMEM);
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
    tcase_add_test(tests, an_archive_that_is_too_large);
    tcase_add_test(tests, the_whole_job_arrives);
    tcase_add_test(tests, a_small_job);
    tcase_add_test(tests, a_job_before_and_after_a_freeze);
    tcase_add_test(tests, an_unknown_key);
    tcase_add_test(tests, modules_in_the_order_of_loading);
    tcase_add_test(tests, a_driver_only_for_a_device_that_is_there);
    tcase_add_test(tests, the_file_is_sealed);
    tcase_add_test(tests, a_command_that_is_too_long);
    suite_add_tcase(suite, tests);
    return unit_run(suite);
}
