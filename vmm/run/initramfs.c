/* SPDX-License-Identifier: MIT */
#include "vmm/run/initramfs.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>

#include "firmware/buffer.h"
#include "firmware/init/embedded.h"
#include "firmware/init/job.h"
#include "vmm/core/base.h"
#include "vmm/core/cleanup.h"
#include "vmm/core/log.h"
#include "vmm/core/write.h"
#include "vmm/run/cpio.h"
#include "vmm/run/etc.h"
#include "vmm/run/modules.h"

#define INITRAMFS_MAX (256 * MIB)
#define SEED_SIZE     32         /* bytes; as in firmware/init/random.c */
#define JOB_MAX       (16 * MIB) /* execve(2) accepts at most 6 MiB of arguments and environment */

/* Drivers for our devices, and overlayfs. Not needed: drivers that older kernels do not have. */
static const struct initramfs_module {
    const char *name;
    bool needed;
    bool nic, disk, balloon; /* only if the machine has one */
} initramfs_modules[] = {
    { .name = "virtio_mmio", .needed = true },
    { .name = "virtio_console", .needed = true },
    { .name = "virtiofs", .needed = true },
    { .name = "overlay", .needed = true },
    { .name = "virtio_net", .needed = true, .nic = true },
    { .name = "virtio_blk", .needed = true, .disk = true },
    { .name = "virtio_rng" },
    { .name = "virtio_balloon", .balloon = true },
    { .name = "pvpanic" }, /* before Linux 5.12 it includes pvpanic_mmio */
    { .name = "pvpanic_mmio" },
};

static void initramfs_put(struct buffer *job, const char *key, const char *value)
{
    buffer_put_text(job, key);
    buffer_put_bytes(job, "=", 1);
    buffer_put_bytes(job, value, strlen(value) + 1);
}

static void initramfs_put_number(struct buffer *job, const char *key, uint32_t number)
{
    char value[16];

    snprintf(value, sizeof(value), "%u", number);
    initramfs_put(job, key, value);
}

static void initramfs_put_share(struct buffer *job, const struct initramfs_share *share)
{
    buffer_put_text(job, share->writable ? "share=rw:" : "share=ro:");
    buffer_put_text(job, share->tag);
    buffer_put_bytes(job, ":", 1);
    buffer_put_bytes(job, share->directory, strlen(share->directory) + 1);
}

static void initramfs_put_terminal(struct buffer *job, const struct initramfs *spec)
{
    char size[24];

    initramfs_put(job, "tty", spec->tty);
    if (spec->rows == 0 || spec->columns == 0)
        return;
    snprintf(size, sizeof(size), "%u:%u", spec->rows, spec->columns);
    initramfs_put(job, "winsize", size);
}

static void initramfs_put_file(struct buffer *job, const char *path, const char *content)
{
    buffer_put_text(job, "file=");
    buffer_put_text(job, path);
    buffer_put_bytes(job, ":", 1);
    buffer_put_bytes(job, content, strlen(content) + 1);
}

static void initramfs_put_etc(struct buffer *job, const struct etc *etc)
{
    if (etc->hosts)
        initramfs_put_file(job, "/etc/hosts", etc->hosts);
    if (etc->hostname)
        initramfs_put_file(job, "/etc/hostname", etc->hostname);
    if (etc->resolver)
        initramfs_put_file(job, "/etc/resolv.conf", etc->resolver);
    if (etc->ipv6)
        initramfs_put(job, "ipv6", "yes");
}

static void initramfs_put_job(struct buffer *job, const struct initramfs *spec)
{
    static const char *const streams[] = {
        [INITRAMFS_NULL] = "null",
        [INITRAMFS_TTY] = "tty",
        [INITRAMFS_PORT] = "port",
        [INITRAMFS_OUTPUT] = "stdout",
    };

    if (spec->freeze)
        initramfs_put(job, "freeze", "yes");
    if (spec->hook)
        initramfs_put(job, "hook", spec->hook);
    if (spec->hostname)
        initramfs_put(job, "hostname", spec->hostname);
    for (unsigned i = 0; i < spec->share_count; i++)
        initramfs_put_share(job, &spec->shares[i]);
    for (unsigned i = 0; spec->run && spec->run[i]; i++)
        initramfs_put(job, "run", spec->run[i]);
    if (spec->network)
        initramfs_put(job, "network", spec->network);
    if (spec->etc)
        initramfs_put_etc(job, spec->etc);
    if (spec->tty)
        initramfs_put_terminal(job, spec);
    initramfs_put(job, "stdin", streams[spec->input]);
    initramfs_put(job, "stdout", streams[spec->output]);
    initramfs_put(job, "stderr", streams[spec->error]);
    initramfs_put_number(job, "uid", spec->uid);
    initramfs_put_number(job, "gid", spec->gid);
    for (unsigned i = 0; i < spec->group_count; i++)
        initramfs_put_number(job, "group", spec->groups[i]);
    if (spec->cwd)
        initramfs_put(job, "cwd", spec->cwd);
    for (unsigned i = 0; spec->env[i]; i++)
        initramfs_put(job, "env", spec->env[i]);
    for (unsigned i = 0; spec->argv[i]; i++)
        initramfs_put(job, "arg", spec->argv[i]);
}

static int initramfs_select_modules(struct modules *modules, const struct initramfs *spec)
{
    const struct initramfs_module *module = initramfs_modules;
    int error = 0;

    for (; module < initramfs_modules + ARRAY_SIZE(initramfs_modules) && !error; module++)
        if ((spec->nic || !module->nic) && (spec->disk || !module->disk) &&
            (spec->balloon || !module->balloon))
            error = modules_add(modules, module->name, module->needed);
    return error;
}

/* Adds the modules' files to the archive, and their names to the job. */
static int initramfs_pack_modules(struct buffer *ret, struct buffer *job,
                                  const struct modules *modules)
{
    int error = 0;

    for (unsigned i = 0; i < modules_count(modules) && !error; i++) {
        struct buffer bytes = { .limit = INITRAMFS_MAX };
        char name[96];

        error = modules_read(modules, i, &bytes);
        if (!error) {
            initramfs_put(job, "module", modules_name(modules, i));
            snprintf(name, sizeof(name), "%s%s", &JOB_MODULES_DIRECTORY[1],
                     modules_name(modules, i));
            cpio_add_file(ret, name, bytes.data, bytes.used, 0644);
        }
        buffer_finish(&bytes);
    }
    return error;
}

static void initramfs_put_nodes(struct buffer *job, const struct modules *modules)
{
    char node[MODULES_NODE_SIZE];
    size_t at = 0;

    while (modules_next_node(modules, &at, node))
        initramfs_put(job, "node", node);
}

static int initramfs_add_modules(struct buffer *ret, struct buffer *job,
                                 const struct initramfs *spec)
{
    struct modules *modules;
    int error;

    if (!spec->modules)
        return 0;
    error = modules_open(&modules, spec->modules, spec->version);
    if (error)
        return error;
    error = initramfs_select_modules(modules, spec);
    if (!error)
        error = initramfs_pack_modules(ret, job, modules);
    initramfs_put_nodes(job, modules);
    modules_close(modules);
    return error;
}

static int initramfs_put_seed(struct buffer *job)
{
    char digits[2 * SEED_SIZE + 1];
    uint8_t seed[SEED_SIZE];

    if (getrandom(seed, sizeof(seed), 0) != sizeof(seed))
        return log_error(errno, "draw random numbers");
    for (unsigned i = 0; i < SEED_SIZE; i++)
        snprintf(digits + 2 * i, 3, "%02x", seed[i]);
    initramfs_put(job, "seed", digits);
    return 0;
}

int initramfs_send_job(struct buffer *ret, const struct initramfs *spec)
{
    struct buffer job = { .limit = JOB_MAX };
    int error = initramfs_put_seed(&job);
    char line[32];

    initramfs_put_job(&job, spec);
    snprintf(line, sizeof(line), "job %zu\n", job.used);
    buffer_put_text(ret, line);
    buffer_put_bytes(ret, job.data, job.used);
    if (!error && (job.full || ret->full))
        error = log_error(ENOMEM, "the command and its environment");
    buffer_finish(&job);
    return error;
}

int initramfs_build(struct buffer *ret, const struct initramfs *spec)
{
    struct buffer job = { .limit = JOB_MAX };
    int error;

    cpio_add_directory(ret, "modules");
    cpio_add_file(ret, "init", init_program, init_program_size, 0755);
    error = initramfs_add_modules(ret, &job, spec);
    if (spec->warm)
        initramfs_put(&job, "warm", "yes");
    else
        initramfs_put_job(&job, spec);
    cpio_add_file(ret, &JOB_FILE[1], job.data, job.used, 0600);
    cpio_end(ret);
    if (!error && (ret->full || job.full))
        error =
            log_error(ENOMEM, "build an initramfs with the command, its environment and modules");
    buffer_finish(&job);
    return error;
}

/* Copies the archive into a sealed memfd. */
static int initramfs_seal(int *ret_fd, const struct buffer *bytes)
{
    cleanup_close int fd = memfd_create("initramfs", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    int error;

    if (fd < 0)
        return log_error(errno, "memfd_create");
    error = write_all(fd, bytes->data, bytes->used);
    if (error)
        return log_error(-error, "write an initramfs to memory");
    if (fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL) < 0)
        return log_error(errno, "seal an initramfs");
    *ret_fd = take_fd(&fd);
    return 0;
}

int initramfs_create(int *ret_fd, const struct initramfs *spec)
{
    struct buffer bytes = { .limit = INITRAMFS_MAX };
    int error = initramfs_build(&bytes, spec);

    if (!error)
        error = initramfs_seal(ret_fd, &bytes);
    buffer_finish(&bytes);
    return error;
}
