/* SPDX-License-Identifier: MIT */

/*
 * The default kernel. Names tell nothing for certain: Arch's vmlinuz-linux is of any version, and
 * boot loaders choose names of their own. So each file in the usual places is looked into, those
 * with the running kernel's release in their path first, as one of them mostly is it.
 */
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "firmware/boot/decompress.h"
#include "firmware/boot/uki.h"
#include "firmware/boot/unwrap.h"
#include "firmware/image.h"
#include "vmm/core/base.h"
#include "vmm/core/log.h"
#include "vmm/run/kernel.h"

/* In this order; of files with the same version the first is taken. */
static const char *const kernel_places[] = {
    "/boot/*",
    "/usr/lib/modules/*/vmlinuz", /* Fedora, openSUSE, Arch */
    "/usr/lib/modules/*/Image",
    "/lib/modules/*/vmlinuz",
    "/lib/modules/*/Image",
    "/boot/*/*/linux", /* kernel-install(8) */
    "/efi/*/*/linux",
    "/boot/EFI/Linux/*.efi", /* unified kernel images */
    "/boot/efi/EFI/Linux/*.efi",
    "/efi/EFI/Linux/*.efi",
    "/run/booted-system/kernel", /* NixOS */
};

struct kernel_search {
    char running[KERNEL_VERSION_SIZE];
    char path[PATH_MAX], version[KERNEL_VERSION_SIZE]; /* the best so far; "": none */
    char closed[PATH_MAX];                             /* a kernel we may not read; "": none */
};

/* Whether the file, if it is a kernel, is one that a boot loader starts: no vmlinux, no initrd. */
static bool kernel_is_bootable(const struct image *image)
{
    char head[0x206] = "";
    struct decompressor *d;
    int64_t size;

    if (unwrap_open(&d, image))
        return false;
    size = decompress_read(d, head, sizeof(head));
    decompress_close(d);
    return size >= 64 && (!memcmp(head + 0x202, "HdrS", 4) || !memcmp(head + 56, "ARM\x64", 4));
}

static bool kernel_is_found(const struct kernel_search *search)
{
    return !strcmp(search->version, search->running);
}

/* Whether to prefer `version` to the best so far. */
static bool kernel_is_better(const struct kernel_search *search, const char *version)
{
    return !strcmp(version, search->running) || strverscmp(version, search->version) > 0;
}

static void kernel_consider(struct kernel_search *search, const char *path)
{
    char version[KERNEL_VERSION_SIZE];
    struct image image;

    if (uki_open(&image, path))
        return;
    if (kernel_is_bootable(&image) && kernel_version(version, &image) == 0 &&
        kernel_is_better(search, version)) {
        snprintf(search->path, sizeof(search->path), "%s", path);
        strcpy(search->version, version);
    }
    image_close(&image);
}

/* By its name, as there is nothing else. */
static bool kernel_is_closed(const char *path)
{
    static const char *const names[] = { "vmlinuz", "Image", "kernel", "linux" };
    const char *name = strrchr(path, '/') + 1, *end = strrchr(name, '.');

    if (faccessat(AT_FDCWD, path, R_OK, AT_EACCESS) == 0 || errno != EACCES)
        return false;
    for (unsigned i = 0; i < ARRAY_SIZE(names); i++)
        if (!strncmp(name, names[i], strlen(names[i])))
            return true;
    return end && !strcmp(end, ".efi");
}

static void kernel_look_at(struct kernel_search *search, const char *path)
{
    struct stat st;

    if (stat(path, &st) < 0 || !S_ISREG(st.st_mode) || st.st_size == 0)
        return;
    if (kernel_is_closed(path) && (!*search->closed || !strstr(search->closed, search->running)))
        snprintf(search->closed, sizeof(search->closed), "%s", path);
    kernel_consider(search, path);
}

static int kernel_cannot_list(const char *path, int error)
{
    if (error == EACCES)
        log_info("open %s: %s", path, strerror(error));
    return 0;
}

/* Looks at the files whose path has the running release in it, or at all others. */
static void kernel_look_everywhere(struct kernel_search *search, const char *root, bool named)
{
    for (unsigned i = 0; i < ARRAY_SIZE(kernel_places) && !kernel_is_found(search); i++) {
        char pattern[PATH_MAX];
        glob_t found;

        snprintf(pattern, sizeof(pattern), "%s%s", root, kernel_places[i]);
        if (glob(pattern, 0, named ? NULL : kernel_cannot_list, &found))
            continue;
        for (size_t file = 0; file < found.gl_pathc && !kernel_is_found(search); file++)
            if ((strstr(found.gl_pathv[file], search->running) != NULL) == named)
                kernel_look_at(search, found.gl_pathv[file]);
        globfree(&found);
    }
}

static int kernel_refuse(const struct kernel_search *search, const char *root)
{
    if (*search->closed)
        return log_refuse(EACCES,
                          "the kernel %s is readable by root only: sudo chmod a+r %s, or name "
                          "another one with --kernel",
                          search->closed, search->closed);
    return log_refuse(ENOENT,
                      "there is no kernel in %s/boot or %s/lib/modules: name one with --kernel; "
                      "apt-get download and dpkg -x fetch one without installing it: "
                      "linux-image-VERSION, or since Debian 14 linux-binary-VERSION, "
                      "linux-base-VERSION and linux-modules-VERSION",
                      root, root);
}

int kernel_find(char **ret_path, char ret_version[KERNEL_VERSION_SIZE], const char *root)
{
    struct kernel_search search = { .path = "" };
    struct utsname host;

    uname(&host);
    snprintf(search.running, sizeof(search.running), "%s", host.release);
    log_expect_errors(true);
    kernel_look_everywhere(&search, root, true);
    kernel_look_everywhere(&search, root, false);
    log_expect_errors(false);
    if (!*search.path)
        return kernel_refuse(&search, root);
    if (!kernel_is_found(&search))
        log_info("the running kernel, %s, was not found, or cannot be read: another one is taken",
                 search.running);
    *ret_path = strdup(search.path);
    if (!*ret_path)
        return log_error(ENOMEM, "find a kernel");
    strcpy(ret_version, search.version);
    return 0;
}
