/* SPDX-License-Identifier: MIT */
#include "vmm/run/modules.h"

#include <errno.h>
#include <lzma.h>
#include <zlib.h>
#include <zstd.h>

#include "firmware/boot/decompress.h"
#include "firmware/buffer.h"
#include "tests/unit/firmware.h"
#include "tests/unit/tree.h"
#include "tests/unit/unit.h"
#include "vmm/core/base.h"
#include "vmm/run/guest_file.h"

#define VERSION "6.1.0-9-x"

static char tree[64];
static struct modules *modules;

static void set_up(void)
{
    tree_make(tree);
    log_capture();
    modules = NULL;
}

static void tear_down(void)
{
    modules_close(modules);
    tree_remove(tree);
}

static void open_modules(const char *dependencies, const char *built_in)
{
    tree_put_text(tree, "modules.dep", dependencies);
    if (built_in)
        tree_put_text(tree, "modules.builtin", built_in);
    ck_assert_int_eq(modules_open(&modules, tree, VERSION), 0);
}

static void expect_names(const char *wanted)
{
    char got[1024] = "";

    for (unsigned i = 0; i < modules_count(modules); i++) {
        strcat(got, modules_name(modules, i));
        strcat(got, " ");
    }
    ck_assert_str_eq(got, wanted);
}

START_TEST(dependencies_come_first_and_once)
{
    open_modules("kernel/drivers/virtio-a.ko.xz: kernel/b.ko kernel/c.ko\n"
                 "kernel/b.ko: kernel/c.ko\n"
                 "kernel/c.ko:\n"
                 "kernel/d_e.ko: kernel/c.ko\n",
                 NULL);
    ck_assert_int_eq(modules_add(modules, "virtio_a", true), 0);
    expect_names("c b virtio_a ");
    ck_assert_int_eq(modules_add(modules, "virtio-a", true), 0);
    ck_assert_int_eq(modules_add(modules, "d-e", true), 0);
    ck_assert_int_eq(modules_add(modules, "b", true), 0);
    expect_names("c b virtio_a d_e ");
}
END_TEST

START_TEST(names_are_whole_names)
{
    open_modules("x/virtio_net.ko:\nx/net.ko:\n", "y/tnet.ko\n");
    ck_assert_int_eq(modules_add(modules, "net", true), 0);
    expect_names("net ");
    ck_assert_int_eq(modules_add(modules, "virtio", true), -ENOENT);
    ck_assert(logged("kernel " VERSION " has no virtio, neither built in nor as a module"));
}
END_TEST

START_TEST(built_in_or_not_needed)
{
    open_modules("", "kernel/fs/fuse.ko\nkernel/drivers/virtio-mmio.ko\n");
    ck_assert_int_eq(modules_add(modules, "virtio_mmio", true), 0);
    ck_assert_int_eq(modules_add(modules, "fuse", true), 0);
    ck_assert_int_eq(modules_add(modules, "nothing", false), 0);
    expect_names("");
    ck_assert_int_eq(modules_add(modules, "nothing", true), -ENOENT);
}
END_TEST

static const char *const damages[] = {
    "a.ko: /etc/shadow.ko\n",
    "a.ko: ../../etc/shadow.ko\n",
    "/a.ko:\n",
    "../a.ko:\n",
    "a.ko: .ko\n",
};

START_TEST(damaged_list)
{
    open_modules(damages[_i], NULL);
    ck_assert_int_eq(modules_add(modules, "a", true), -EINVAL);
    ck_assert(logged("modules.dep is damaged"));
}
END_TEST

START_TEST(too_many_dependencies)
{
    char list[4096] = "a.ko:";

    for (unsigned i = 0; i < 200; i++)
        sprintf(list + strlen(list), " m%u.ko", i);
    open_modules(list, NULL);
    ck_assert_int_eq(modules_add(modules, "a", true), -E2BIG);
    ck_assert(logged("more than"));
}
END_TEST

START_TEST(no_list)
{
    char directory[128], words[256];

    ck_assert_int_eq(modules_open(&modules, tree, VERSION), -ENOENT);
    ck_assert(logged("has no modules.dep"));

    tree_put_text(tree, "lib/modules/" VERSION "/modules.order", "");
    snprintf(directory, sizeof(directory), "%s/lib/modules/" VERSION, tree);
    snprintf(words, sizeof(words), "run depmod -b %s " VERSION, tree);
    ck_assert_int_eq(modules_open(&modules, directory, VERSION), -ENOENT);
    ck_assert(logged(words));
}
END_TEST

/* A module of `size` bytes: pseudo-random, so that none compresses to nothing. */
static void make_module(uint8_t *bytes, size_t size, const char *version)
{
    for (size_t i = 0; i < size; i++)
        bytes[i] = (uint8_t)(i * 7 + (i >> 8) * 13 + (i >> 16));
    sprintf((char *)bytes + size / 2, "vermagic=%s SMP mod_unload ", version);
}

#define MODULE_SIZE 300000u
static uint8_t module[MODULE_SIZE], wrapped[2 * MODULE_SIZE];

static size_t wrap_nothing(void)
{
    memcpy(wrapped, module, MODULE_SIZE);
    return MODULE_SIZE;
}

static size_t wrap_gzip(void)
{
    z_stream z = { .next_in = module,
                   .avail_in = MODULE_SIZE,
                   .next_out = wrapped,
                   .avail_out = sizeof(wrapped) };

    ck_assert_int_eq(deflateInit2(&z, 6, Z_DEFLATED, 16 + MAX_WBITS, 8, 0), Z_OK);
    ck_assert_int_eq(deflate(&z, Z_FINISH), Z_STREAM_END);
    deflateEnd(&z);
    return z.total_out;
}

static size_t wrap_zstd(void)
{
    return ZSTD_compress(wrapped, sizeof(wrapped), module, MODULE_SIZE, 3);
}

/* As pzstd does: the size of the frame in one without data. */
static size_t wrap_pzstd(void)
{
    uint8_t head[12] = ZSTD_SKIP "\x04";
    size_t size = wrap_zstd();

    memcpy(head + 8, &(uint32_t){ (uint32_t)size }, 4);
    memmove(wrapped + sizeof(head), wrapped, size);
    memcpy(wrapped, head, sizeof(head));
    return sizeof(head) + size;
}

/* As Debian does: with CRC32, which the kernel supports. */
static size_t wrap_xz(void)
{
    size_t size = 0;

    ck_assert_int_eq(lzma_easy_buffer_encode(1, LZMA_CHECK_CRC32, NULL, module, MODULE_SIZE,
                                             wrapped, &size, sizeof(wrapped)),
                     LZMA_OK);
    return size;
}

static const struct {
    const char *name;
    size_t (*wrap)(void);
} wrappings[] = {
    { "a.ko", wrap_nothing },     { "a.ko.gz", wrap_gzip }, { "a.ko.zst", wrap_zstd },
    { "a.ko.pzstd", wrap_pzstd }, { "a.ko.xz", wrap_xz },
};

static int read_first(struct buffer *ret)
{
    ck_assert_int_eq(modules_add(modules, "a", true), 0);
    return modules_read(modules, 0, ret);
}

START_TEST(any_wrapping)
{
    struct buffer bytes = { .limit = MIB };
    char list[32];

    make_module(module, MODULE_SIZE, VERSION);
    tree_put(tree, wrappings[_i].name, wrapped, wrappings[_i].wrap());
    snprintf(list, sizeof(list), "%s:\n", wrappings[_i].name);
    open_modules(list, NULL);
    ck_assert_int_eq(read_first(&bytes), 0);
    ck_assert_uint_eq(bytes.used, MODULE_SIZE);
    ck_assert_mem_eq(bytes.data, module, MODULE_SIZE);
    buffer_finish(&bytes);
}
END_TEST

/* Joined files, padded with zeros, and something that is none at the end. */
START_TEST(wrapped_in_several_parts)
{
    enum { PARTS = 3, PADDING = 70000 };
    static uint8_t joined[PARTS * (sizeof(wrapped) + PADDING)];
    struct buffer bytes = { .limit = 2 * MIB };
    size_t used = 0;

    make_module(module, MODULE_SIZE, VERSION);
    for (unsigned i = 0; i < PARTS; i++) {
        size_t size = wrappings[_i].wrap();

        memcpy(joined + used, wrapped, size);
        used += size + (i ? PADDING : 0);
    }
    memcpy(joined + used, wrapped, 8); /* begins like another part */
    tree_put(tree, "a.ko", joined, used + 8);
    open_modules("a.ko:\n", NULL);
    ck_assert_int_eq(read_first(&bytes), 0);
    ck_assert_uint_eq(bytes.used, PARTS * MODULE_SIZE);
    for (unsigned i = 0; i < PARTS; i++)
        ck_assert_mem_eq(bytes.data + i * MODULE_SIZE, module, MODULE_SIZE);
    buffer_finish(&bytes);
}
END_TEST

START_TEST(truncated_wrapping)
{
    struct buffer bytes = { .limit = MIB };
    size_t size;

    make_module(module, MODULE_SIZE, VERSION);
    size = wrappings[_i].wrap();
    tree_put(tree, "a.ko", wrapped, size / 3);
    open_modules("a.ko:\n", NULL);
    ck_assert_int_eq(read_first(&bytes), -EINVAL);
    ck_assert(logged(_i == 0 ? "is not a kernel module" : "is truncated"));
    buffer_finish(&bytes);
}
END_TEST

START_TEST(module_of_another_kernel)
{
    struct buffer bytes = { .limit = MIB };

    make_module(module, MODULE_SIZE, VERSION "2");
    tree_put(tree, "a.ko", module, MODULE_SIZE);
    open_modules("a.ko:\n", NULL);
    ck_assert_int_eq(read_first(&bytes), -EINVAL);
    ck_assert(logged("is for kernel " VERSION "2, not for " VERSION));
    buffer_finish(&bytes);
}
END_TEST

/* A small file that would decompress to a large one. */
START_TEST(module_that_is_too_large)
{
    struct buffer bytes = { .limit = GIB };
    size_t size = 100 * MIB;
    uint8_t *zeros = calloc(1, size);

    tree_put(tree, "a.ko.zst", wrapped, ZSTD_compress(wrapped, sizeof(wrapped), zeros, size, 1));
    free(zeros);
    open_modules("a.ko.zst:\n", NULL);
    ck_assert_int_eq(read_first(&bytes), -EFBIG);
    ck_assert(logged("is larger than any module"));
    buffer_finish(&bytes);
}
END_TEST

/* A library that a file has taken over shall reach no other file. Here it waits for the reader. */
START_TEST(what_decompresses_has_no_other_descriptor)
{
    struct decompressor *d = NULL;
    struct image image;
    char path[128], byte;
    size_t size = 10 * MIB;
    uint8_t *zeros = calloc(1, size);
    int other[2];

    tree_put(tree, "zeros", wrapped, ZSTD_compress(wrapped, sizeof(wrapped), zeros, size, 1));
    free(zeros);
    snprintf(path, sizeof(path), "%s/zeros", tree);
    ck_assert_int_eq(image_open(&image, path), 0);
    ck_assert_int_eq(pipe(other), 0);
    ck_assert_int_eq(decompress_open(&d, &image, 0, image.size, COMPRESSION_ZSTD), 0);
    close(other[1]);
    ck_assert_int_eq(read(other[0], &byte, 1), 0); /* the end: no child has it */
    decompress_close(d);
    image_close(&image);
    close(other[0]);
}
END_TEST

START_TEST(module_that_does_not_exist)
{
    struct buffer bytes = { .limit = MIB };

    open_modules("a.ko:\n", NULL);
    ck_assert_int_eq(read_first(&bytes), -ENOENT);
    ck_assert(logged("a.ko"));
    buffer_finish(&bytes);
}
END_TEST

/* Where the modules and the kernel are, --modules, and the directory to find (NULL: none). */
static const struct {
    const char *modules, *kernel, *given, *found;
} places[] = {
    { "lib/modules/" VERSION, "boot/vmlinuz", NULL, "lib/modules/" VERSION },
    { "usr/lib/modules/" VERSION, "boot/vmlinuz", NULL, "usr/lib/modules/" VERSION },
    { "lib/modules/" VERSION, "lib/modules/" VERSION "/vmlinuz", NULL, "lib/modules/" VERSION },
    { "lib/modules/" VERSION, "Image", NULL, "lib/modules/" VERSION },
    { "store/linux/lib/modules/" VERSION, "store/linux/bzImage", NULL,
      "store/linux/lib/modules/" VERSION },
    { "lib/modules/" VERSION, "elsewhere/boot/vmlinuz", NULL, NULL },
    { "lib/modules/other", "boot/vmlinuz", NULL, NULL },
    { "given/lib/modules/" VERSION, "boot/vmlinuz", "given", "given/lib/modules/" VERSION },
    { "given", "boot/vmlinuz", "given", "given" },
    { "lib/modules/" VERSION, "boot/vmlinuz", "given", NULL },
};

START_TEST(directory_is_found)
{
    char kernel[256], given[256], wanted[256], name[256], *found = NULL;
    const char *named = places[_i].given ? given : NULL;

    snprintf(name, sizeof(name), "%s/modules.dep", places[_i].modules);
    tree_put_text(tree, name, "");
    tree_put_text(tree, places[_i].kernel, "");
    snprintf(kernel, sizeof(kernel), "%s/%s", tree, places[_i].kernel);
    snprintf(given, sizeof(given), "%s/%s", tree, places[_i].given ? places[_i].given : "");
    if (places[_i].found) {
        snprintf(wanted, sizeof(wanted), "%s/%s", tree, places[_i].found);
        ck_assert_int_eq(modules_find(&found, named, kernel, VERSION), 0);
        ck_assert_str_eq(found, wanted);
        free(found);
    } else {
        ck_assert_int_eq(modules_find(&found, named, kernel, VERSION), -ENOENT);
        ck_assert(logged(named ? given : "there are no modules of kernel " VERSION));
    }
}
END_TEST

/* NixOS: a system, "now", has links to its kernel and to the modules of that. */
START_TEST(directory_is_found_by_links)
{
    char kernel[128], link[128], wanted[128], *found = NULL;

    tree_put_text(tree, "store/linux/bzImage", "");
    tree_put_text(tree, "store/linux-modules/lib/modules/" VERSION "/modules.dep", "");
    tree_put_text(tree, "run/now/etc", "");
    snprintf(kernel, sizeof(kernel), "%s/run/now/kernel", tree);
    snprintf(link, sizeof(link), "%s/run/now/kernel-modules", tree);
    snprintf(wanted, sizeof(wanted), "%s/store/linux-modules/lib/modules/" VERSION, tree);
    ck_assert_int_eq(symlink("../../store/linux/bzImage", kernel), 0);
    ck_assert_int_eq(symlink("../../store/linux-modules", link), 0);
    ck_assert_int_eq(modules_find(&found, NULL, kernel, VERSION), 0);
    ck_assert_str_eq(found, wanted);
    free(found);
    found = NULL;
    ck_assert_int_eq(unlink(link), 0);
    ck_assert_int_eq(modules_find(&found, NULL, kernel, VERSION), -ENOENT);
}
END_TEST

START_TEST(no_modules)
{
    char *found = tree;

    ck_assert_int_eq(modules_find(&found, "none", "/nowhere/vmlinuz", VERSION), 0);
    ck_assert_ptr_null(found);
}
END_TEST

START_TEST(nodes_of_devices)
{
    const char *const wanted[] = { "c:10:237:loop-control", "c:10:200:net/tun", "b:7:0:x" };
    char node[MODULES_NODE_SIZE];
    size_t at = 0;

    tree_put_text(tree, "modules.devname",
                  "# Device nodes to trigger on-demand module loading.\n"
                  "loop loop-control c10:237\n\ntun net/tun c10:200\n"
                  "a ../../etc/x c1:2\nb /x c1:2\nc x c1\nd x p1:2\ne x c1:2 more\nf x c1:2x\n"
                  "g x c1:99999999999\n#h x c1:2\ni x\nc1:2\n"
                  "y x b7:0");
    open_modules("", NULL);
    for (unsigned i = 0; i < ARRAY_SIZE(wanted); i++) {
        ck_assert(modules_next_node(modules, &at, node));
        ck_assert_str_eq(node, wanted[i]);
    }
    ck_assert(!modules_next_node(modules, &at, node));
}
END_TEST

/* In a time that grows with their number, not with its square, which would be minutes. */
START_TEST(a_list_of_many_lines)
{
    const size_t size = 4 * MIB;
    char *lines = malloc(size), node[MODULES_NODE_SIZE];
    size_t at = 0;

    for (size_t i = 0; i < size; i++)
        lines[i] = i % 2 ? '\n' : 'a';
    tree_put(tree, "modules.devname", lines, size);
    free(lines);
    open_modules("", NULL);
    ck_assert(!modules_next_node(modules, &at, node));
    ck_assert_uint_eq(at, size);
}
END_TEST

START_TEST(modules_that_the_guest_has_already)
{
    char inside[128], outside[128];

    tree_put_text(tree, "usr/lib/modules/" VERSION "/modules.dep", "");
    tree_put_text(tree, "other/modules.dep", "");
    snprintf(inside, sizeof(inside), "%s/usr/lib/modules/" VERSION, tree);
    snprintf(outside, sizeof(outside), "%s/other", tree);
    ck_assert(!modules_shown(inside, tree, VERSION));
    snprintf(inside, sizeof(inside), "%s/lib", tree);
    ck_assert_int_eq(symlink("/usr/lib", inside), 0);
    snprintf(inside, sizeof(inside), "%s/usr/lib/modules/" VERSION, tree);
    ck_assert(modules_shown(inside, tree, VERSION));
    ck_assert(!modules_shown(outside, tree, VERSION));
    ck_assert(!modules_shown(inside, tree, VERSION "x"));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("modules");
    TCase *tests = tcase_create("modules");

    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_add_test(tests, dependencies_come_first_and_once);
    tcase_add_test(tests, names_are_whole_names);
    tcase_add_test(tests, built_in_or_not_needed);
    tcase_add_loop_test(tests, damaged_list, 0, ARRAY_SIZE(damages));
    tcase_add_test(tests, too_many_dependencies);
    tcase_add_test(tests, no_list);
    tcase_add_loop_test(tests, any_wrapping, 0, ARRAY_SIZE(wrappings));
    tcase_add_loop_test(tests, wrapped_in_several_parts, 1, ARRAY_SIZE(wrappings));
    tcase_add_loop_test(tests, truncated_wrapping, 0, ARRAY_SIZE(wrappings));
    tcase_add_test(tests, module_of_another_kernel);
    tcase_add_test(tests, module_that_is_too_large);
    tcase_add_test(tests, what_decompresses_has_no_other_descriptor);
    tcase_add_test(tests, module_that_does_not_exist);
    tcase_add_loop_test(tests, directory_is_found, 0, ARRAY_SIZE(places));
    tcase_add_test(tests, directory_is_found_by_links);
    tcase_add_test(tests, no_modules);
    tcase_add_test(tests, nodes_of_devices);
    tcase_add_test(tests, a_list_of_many_lines);
    if (guest_file_open("/", "/", O_DIRECTORY) >= 0)
        tcase_add_test(tests, modules_that_the_guest_has_already);
    else
        puts("# modules_that_the_guest_has_already needs openat2()");
    suite_add_tcase(suite, tests);
    return unit_run(suite);
}
