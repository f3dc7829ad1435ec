/* SPDX-License-Identifier: MIT */
#include "vmm/run/initramfs.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "firmware/buffer.h"
#include "firmware/init/embedded.h"
#include "firmware/init/job.h"
#include "vmm/core/base.h"
#include "vmm/core/cleanup.h"
#include "vmm/core/log.h"
#include "vmm/run/cpio.h"
#include "vmm/run/modules.h"

#define INITRAMFS_MAX (256 * MIB)
#define ORDERS_MAX    (16 * MIB) /* Linux takes 6 MiB of arguments and environment at most */

/* What our devices need of a kernel. Some is built in, some came with later versions only. */
static const struct {
    const char *name;
    bool needed, network;
} initramfs_modules[] = {
    { .name = "virtio_mmio", .needed = true },
    { .name = "virtio_console", .needed = true },
    { .name = "virtiofs", .needed = true },
    { .name = "overlay", .needed = true },
    { .name = "virtio_net", .needed = true, .network = true },
    { .name = "virtio_rng" },
    { .name = "pvpanic" }, /* with all of it until Linux 5.12 */
    { .name = "pvpanic_mmio" },
};

static void initramfs_order(struct buffer *orders, const char *key, const char *value)
{
    buffer_put_text(orders, key);
    buffer_put_bytes(orders, "=", 1);
    buffer_put_bytes(orders, value, strlen(value) + 1);
}

static void initramfs_order_number(struct buffer *orders, const char *key, uint32_t number)
{
    char value[16];

    snprintf(value, sizeof(value), "%u", number);
    initramfs_order(orders, key, value);
}

static void initramfs_order_share(struct buffer *orders, const struct initramfs_share *share)
{
    buffer_put_text(orders, share->writable ? "share=rw:" : "share=ro:");
    buffer_put_text(orders, share->tag);
    buffer_put_bytes(orders, ":", 1);
    buffer_put_bytes(orders, share->directory, strlen(share->directory) + 1);
}

static void initramfs_order_terminal(struct buffer *orders, const struct initramfs *what)
{
    char size[24];

    initramfs_order(orders, "tty", what->tty);
    if (what->rows == 0 || what->columns == 0)
        return;
    snprintf(size, sizeof(size), "%u:%u", what->rows, what->columns);
    initramfs_order(orders, "winsize", size);
}

static void initramfs_order_all(struct buffer *orders, const struct initramfs *what)
{
    static const char *const streams[] = {
        [INITRAMFS_NULL] = "null",
        [INITRAMFS_TTY] = "tty",
        [INITRAMFS_PORT] = "port",
        [INITRAMFS_OUTPUT] = "stdout",
    };

    if (what->hostname)
        initramfs_order(orders, "hostname", what->hostname);
    for (unsigned i = 0; i < what->share_count; i++)
        initramfs_order_share(orders, &what->shares[i]);
    if (what->network)
        initramfs_order(orders, "network", "user");
    if (what->tty)
        initramfs_order_terminal(orders, what);
    initramfs_order(orders, "stdin", streams[what->input]);
    initramfs_order(orders, "stdout", streams[what->output]);
    initramfs_order(orders, "stderr", streams[what->error]);
    initramfs_order_number(orders, "uid", what->uid);
    initramfs_order_number(orders, "gid", what->gid);
    for (unsigned i = 0; i < what->group_count; i++)
        initramfs_order_number(orders, "group", what->groups[i]);
    initramfs_order(orders, "cwd", what->cwd);
    for (unsigned i = 0; what->env[i]; i++)
        initramfs_order(orders, "env", what->env[i]);
    for (unsigned i = 0; what->argv[i]; i++)
        initramfs_order(orders, "arg", what->argv[i]);
}

static int initramfs_choose(struct modules *modules, bool network)
{
    int error = 0;

    for (unsigned i = 0; i < ARRAY_SIZE(initramfs_modules) && !error; i++)
        if (network || !initramfs_modules[i].network)
            error = modules_add(modules, initramfs_modules[i].name, initramfs_modules[i].needed);
    return error;
}

/* The files, and the orders to load them. */
static int initramfs_pack_modules(struct buffer *ret, struct buffer *orders,
                                  const struct modules *modules)
{
    int error = 0;

    for (unsigned i = 0; i < modules_count(modules) && !error; i++) {
        struct buffer bytes = { .limit = INITRAMFS_MAX };
        char name[96];

        error = modules_read(modules, i, &bytes);
        if (!error) {
            initramfs_order(orders, "module", modules_name(modules, i));
            snprintf(name, sizeof(name), "%s%s", ORDERS_MODULES + 1, modules_name(modules, i));
            cpio_add_file(ret, name, bytes.data, bytes.used, 0644);
        }
        buffer_finish(&bytes);
    }
    return error;
}

static int initramfs_add_modules(struct buffer *ret, struct buffer *orders,
                                 const struct initramfs *what)
{
    struct modules *modules;
    int error;

    if (!what->modules)
        return 0;
    error = modules_open(&modules, what->modules, what->version);
    if (error)
        return error;
    error = initramfs_choose(modules, what->network);
    if (!error)
        error = initramfs_pack_modules(ret, orders, modules);
    modules_close(modules);
    return error;
}

int initramfs_build(struct buffer *ret, const struct initramfs *what)
{
    struct buffer orders = { .limit = ORDERS_MAX };
    int error;

    cpio_add_directory(ret, "modules");
    cpio_add_file(ret, "init", guest_init, guest_init_size, 0755);
    error = initramfs_add_modules(ret, &orders, what);
    initramfs_order_all(&orders, what);
    cpio_add_file(ret, ORDERS_FILE + 1, orders.data, orders.used, 0600);
    cpio_end(ret);
    if (!error && (ret->full || orders.full))
        error = log_error(ENOMEM, "an initramfs with the command, its environment and modules");
    buffer_finish(&orders);
    return error;
}

/* A file in memory that nobody can change any more. */
static int initramfs_seal(int *ret_fd, const struct buffer *bytes)
{
    cleanup_close int fd = memfd_create("initramfs", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    size_t done = 0;

    if (fd < 0)
        return log_error(errno, "memfd_create");
    while (done < bytes->used) {
        ssize_t n = write(fd, bytes->data + done, bytes->used - done);

        if (n < 0 && errno != EINTR)
            return log_error(errno, "write an initramfs to memory");
        done += n > 0 ? (size_t)n : 0;
    }
    if (fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL) < 0)
        return log_error(errno, "seal an initramfs");
    *ret_fd = take_fd(&fd);
    return 0;
}

int initramfs_create(int *ret_fd, const struct initramfs *what)
{
    struct buffer bytes = { .limit = INITRAMFS_MAX };
    int error = initramfs_build(&bytes, what);

    if (!error)
        error = initramfs_seal(ret_fd, &bytes);
    buffer_finish(&bytes);
    return error;
}
