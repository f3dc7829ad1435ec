/* SPDX-License-Identifier: MIT */
#include "vmm/run/modules.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "firmware/boot/decompress.h"
#include "firmware/boot/unwrap.h"
#include "firmware/buffer.h"
#include "firmware/image.h"
#include "vmm/core/base.h"
#include "vmm/core/cleanup.h"
#include "vmm/core/log.h"
#include "vmm/run/guest_file.h"

#define LIST_MAX   (16 * MIB) /* bytes; a distribution's modules.dep is below 1 MiB */
#define MODULE_MAX (64 * MIB) /* bytes, decompressed */
#define ADDED_MAX  128
#define NAME_SIZE  56 /* with its NUL: Linux, MODULE_NAME_LEN */
#define PIECE      (256 * KIB)
#define VERMAGIC   "vermagic="

struct module {
    char name[NAME_SIZE];
    const char *path; /* relative to the directory; not ended by a NUL */
    size_t path_length;
};

struct modules {
    char *directory, *version;
    char *dependencies; /* modules.dep */
    char *built_in;     /* modules.builtin; "" if there is none */
    char *nodes;        /* modules.devname; "" if there is none */
    struct module added[ADDED_MAX];
    unsigned count;
};

static bool modules_is_directory(const char *path)
{
    struct stat st;

    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

/* The real path of DIR/lib/modules/VERSION, or likewise in another place below DIR; or NULL. */
static char *modules_below(const char *directory, const char *version)
{
    static const char *const places[] = {
        "lib/modules", "usr/lib/modules", "kernel-modules/lib/modules" /* a system of NixOS */
    };
    char path[PATH_MAX];

    for (unsigned i = 0; i < ARRAY_SIZE(places); i++) {
        int length = snprintf(path, sizeof(path), "%s/%s/%s", directory, places[i], version);

        if ((size_t)length < sizeof(path) && modules_is_directory(path))
            return realpath(path, NULL);
    }
    return NULL;
}

/*
 * For DIR/vmlinuz and DIR/boot/vmlinuz looks below DIR. Fedora's vmlinuz is in lib/modules/VERSION
 * itself.
 */
static char *modules_beside(const char *kernel, const char *version)
{
    cleanup_free char *path = strdup(kernel);
    char *name = path ? strrchr(path, '/') : NULL, *found;

    if (!name)
        return NULL;
    *name = '\0';
    found = modules_below(path, version);
    name = strrchr(path, '/');
    if (found || !name)
        return found;
    if (!strcmp(name + 1, version))
        return realpath(path, NULL);
    *name = '\0';
    return modules_below(path, version);
}

/* Beside the kernel, wherever links lead, or where the host has them. */
static char *modules_look(const char *kernel, const char *version)
{
    static const char *const places[] = { "", "/run/booted-system", "/run/current-system" };
    cleanup_free char *real = realpath(kernel, NULL);
    char *found = modules_beside(kernel, version);

    if (!found && real)
        found = modules_beside(real, version);
    for (unsigned i = 0; i < ARRAY_SIZE(places) && !found; i++)
        found = modules_below(places[i], version);
    return found;
}

int modules_find(char **ret_directory, const char *given, const char *kernel, const char *version)
{
    char *found;

    if (given && !strcmp(given, "none")) {
        *ret_directory = NULL;
        return 0;
    }
    found = given ? modules_below(given, version) : modules_look(kernel, version);
    if (!found && given)
        found = realpath(given, NULL);
    if (!found && given)
        return log_error(errno, "modules in %s", given);
    if (!found)
        return log_refuse(
            ENOENT,
            "there are no modules of kernel %s, neither beside %s nor in /lib/modules: "
            "install its package, name their directory with --modules, or use --modules none if "
            "all drivers are built in",
            version, kernel);
    *ret_directory = found;
    return 0;
}

bool modules_shown(const char *directory, const char *root, const char *version)
{
    char path[PATH_MAX];
    struct stat ours, shown;
    cleanup_close int fd = -1;

    snprintf(path, sizeof(path), "/lib/modules/%s", version);
    fd = guest_file_open(root, path, O_DIRECTORY);
    return fd >= 0 && fstat(fd, &shown) == 0 && stat(directory, &ours) == 0 &&
           ours.st_dev == shown.st_dev && ours.st_ino == shown.st_ino;
}

/* Reads a whole text file as a string; "" if it does not exist. The caller frees it. */
static int modules_read_list(char **ret, const char *directory, const char *name)
{
    char path[PATH_MAX];
    cleanup_free char *text = NULL;
    struct image image;
    struct stat st;
    int error;

    if ((size_t)snprintf(path, sizeof(path), "%s/%s", directory, name) >= sizeof(path))
        return log_error(ENAMETOOLONG, "open %s", name);
    if (stat(path, &st) < 0 || st.st_size == 0) {
        *ret = strdup("");
        return *ret ? 0 : log_error(ENOMEM, "read %s", path);
    }
    error = image_open(&image, path);
    if (error)
        return error;
    if (image.size > LIST_MAX)
        error = log_refuse(EFBIG, "%s is too large to be a list of modules", path);
    else if (!(text = malloc(image.size + 1)))
        error = log_error(ENOMEM, "read %s", path);
    else
        error = image_read(&image, 0, text, image.size);
    if (!error) {
        text[image.size] = '\0';
        *ret = text;
        text = NULL;
    }
    image_close(&image);
    return error;
}

/* Refuses with the depmod command that creates modules.dep in DIR/lib/modules/VERSION. */
static int modules_refuse_unlisted(const char *directory, const char *version)
{
    size_t length = strlen(directory), tail = strlen("/lib/modules/") + strlen(version);
    char standard[PATH_MAX];

    snprintf(standard, sizeof(standard), "/lib/modules/%s", version);
    if (length > tail && !strcmp(directory + length - tail, standard))
        return log_refuse(ENOENT, "%s has no modules.dep: run depmod -b %.*s %s", directory,
                          (int)(length - tail), directory, version);
    return log_refuse(ENOENT,
                      "%s has no modules.dep: name a directory of modules, or run depmod %s",
                      directory, version);
}

int modules_open(struct modules **ret, const char *directory, const char *version)
{
    struct modules *modules = calloc(1, sizeof(*modules));
    char path[PATH_MAX];
    int error = 0;

    if (!modules || !(modules->directory = strdup(directory)) ||
        !(modules->version = strdup(version)))
        error = log_error(ENOMEM, "modules");
    snprintf(path, sizeof(path), "%s/modules.dep", directory);
    if (!error && access(path, R_OK) < 0)
        error = errno == ENOENT ? modules_refuse_unlisted(directory, version)
                                : log_error(errno, "open %s", path);
    if (!error)
        error = modules_read_list(&modules->dependencies, directory, "modules.dep");
    if (!error)
        error = modules_read_list(&modules->built_in, directory, "modules.builtin");
    if (!error)
        error = modules_read_list(&modules->nodes, directory, "modules.devname");
    if (error) {
        modules_close(modules);
        return error;
    }
    *ret = modules;
    return 0;
}

void modules_close(struct modules *modules)
{
    if (!modules)
        return;
    free(modules->directory);
    free(modules->version);
    free(modules->dependencies);
    free(modules->built_in);
    free(modules->nodes);
    free(modules);
}

/* The module's name, virtio_rng, in "kernel/drivers/char/virtio-rng.ko.xz". */
static void modules_name_of(char ret[NAME_SIZE], const char *path, size_t length)
{
    const char *name = memrchr(path, '/', length);
    size_t size;

    name = name ? name + 1 : path;
    length -= (size_t)(name - path);
    for (size = 0; size < length && size < NAME_SIZE - 1; size++) {
        if (length - size >= 3 && !memcmp(name + size, ".ko", 3))
            break;
        ret[size] = name[size] == '-' ? '_' : name[size];
    }
    ret[size] = '\0';
}

static bool modules_path_is(const char *path, size_t length, const char *wanted)
{
    char name[NAME_SIZE];

    modules_name_of(name, path, length);
    return !strcmp(name, wanted);
}

/* Finds the line for module `name`; its path ends at `end` or the line's end. NULL if none. */
static const char *modules_line(const char *list, char end, const char *name)
{
    const char stops[] = { end, '\n', '\0' };

    while (*list) {
        size_t length = strcspn(list, stops);

        if (modules_path_is(list, length, name))
            return list;
        list += length + strcspn(list + length, "\n");
        list += *list == '\n';
    }
    return NULL;
}

static int modules_append(struct modules *modules, const char *path, size_t length)
{
    struct module *module = &modules->added[modules->count];
    char name[NAME_SIZE];

    modules_name_of(name, path, length);
    for (unsigned i = 0; i < modules->count; i++)
        if (!strcmp(modules->added[i].name, name))
            return 0;
    if (length == 0 || !name[0] || path[0] == '/' || memmem(path, length, "..", 2))
        return log_refuse(EINVAL, "%s/modules.dep is damaged: run depmod", modules->directory);
    if (modules->count == ADDED_MAX)
        return log_refuse(E2BIG, "%s/modules.dep lists more than %d modules: run depmod",
                          modules->directory, ADDED_MAX);
    *module = (struct module){ .path = path, .path_length = length };
    memcpy(module->name, name, sizeof(name));
    modules->count++;
    return 0;
}

/* modules.dep lists direct and indirect dependencies in the reverse order of loading. */
static int modules_append_line(struct modules *modules, const char *line)
{
    size_t length = strcspn(line, ":\n");
    const char *end = line + strcspn(line, "\n");
    int error = 0;

    while (!error && end > line + length + 1) {
        const char *path = end;

        while (path > line + length + 1 && path[-1] != ' ')
            path--;
        if (path < end)
            error = modules_append(modules, path, (size_t)(end - path));
        end = path - 1;
    }
    return error ? error : modules_append(modules, line, length);
}

int modules_add(struct modules *modules, const char *name, bool needed)
{
    char plain[NAME_SIZE];
    const char *line;

    modules_name_of(plain, name, strlen(name));
    line = modules_line(modules->dependencies, ':', plain);
    if (line)
        return modules_append_line(modules, line);
    if (!needed || modules_line(modules->built_in, '\n', plain))
        return 0;
    return log_refuse(ENOENT,
                      "kernel %s has no %s, neither built in nor as a module in %s: use another "
                      "kernel, or install the rest of its modules",
                      modules->version, plain, modules->directory);
}

unsigned modules_count(const struct modules *modules)
{
    return modules->count;
}

const char *modules_name(const struct modules *modules, unsigned index)
{
    return modules->added[index].name;
}

/* A line: "MODULE NAME c10:237". Lines of another form are skipped, such as comments. */
bool modules_next_node(const struct modules *modules, size_t *at, char ret[MODULES_NODE_SIZE])
{
    while (modules->nodes[*at]) {
        const char *line = modules->nodes + *at;
        size_t length = strcspn(line, "\n");
        char text[256], name[100], type[2]; /* a copy, since sscanf() measures all that follows */
        unsigned major, minor;
        int end = 0;

        *at += length + (line[length] == '\n');
        if (*line == '#' || length >= sizeof(text))
            continue;
        snprintf(text, sizeof(text), "%.*s", (int)length, line);
        if (sscanf(text, "%*[^ \n] %99[^ \n] %1[cb]%9u:%9u%n", name, type, &major, &minor, &end) !=
                4 ||
            (size_t)end != length || name[0] == '/' || strstr(name, ".."))
            continue;
        snprintf(ret, MODULES_NODE_SIZE, "%s:%u:%u:%s", type, major, minor, name);
        return true;
    }
    return false;
}

/* The ELF section .modinfo has "vermagic=VERSION ..." as plain text. */
static int modules_check_version(const struct modules *modules, const char *path,
                                 const uint8_t *bytes, size_t size)
{
    const char *magic = memmem(bytes, size, VERMAGIC, strlen(VERMAGIC));
    const char *version = magic ? magic + strlen(VERMAGIC) : NULL;
    size_t left = magic ? size - (size_t)((const uint8_t *)version - bytes) : 0;
    size_t length = 0;

    if (!magic)
        return log_refuse(EINVAL, "%s is not a kernel module", path);
    while (length < left && length < 64 && version[length] > ' ')
        length++;
    if (length == strlen(modules->version) && !memcmp(version, modules->version, length))
        return 0;
    return log_refuse(EINVAL,
                      "%s is for kernel %.*s, not for %s: name the right directory with --modules",
                      path, (int)length, version, modules->version);
}

static int modules_unpack(const struct image *image, struct buffer *ret)
{
    const size_t start = ret->used;
    struct decompressor *d;
    int64_t got = 0;
    int error = unwrap_open(&d, image);

    if (error)
        return error;
    do {
        uint8_t *dst = buffer_extend(ret, PIECE);

        if (!dst)
            got = log_error(ENOMEM, "read %s", image->path);
        else if ((got = decompress_read(d, dst, PIECE)) >= 0)
            ret->used -= PIECE - (size_t)got;
        if (got >= 0 && ret->used - start > MODULE_MAX)
            got = log_refuse(EFBIG, "%s is larger than any module", image->path);
    } while (got > 0);
    decompress_close(d);
    return (int)got;
}

int modules_read(const struct modules *modules, unsigned index, struct buffer *ret)
{
    const struct module *module = &modules->added[index];
    size_t start = ret->used;
    char path[PATH_MAX];
    struct image image;
    int error;

    if ((size_t)snprintf(path, sizeof(path), "%s/%.*s", modules->directory,
                         (int)module->path_length, module->path) >= sizeof(path))
        return log_error(ENAMETOOLONG, "open %s", module->name);
    error = image_open(&image, path);
    if (error)
        return error;
    error = modules_unpack(&image, ret);
    if (!error)
        error = modules_check_version(modules, path, ret->data + start, ret->used - start);
    image_close(&image);
    return error;
}
