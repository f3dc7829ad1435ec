/* SPDX-License-Identifier: MIT */

/* A confined thread can serve requests, and do little else. */
#include "devices/fs/confine.h"

#include <errno.h>
#include <linux/landlock.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include "settings.h"
#include "tests/unit/fuse_client.h"
#include "tests/unit/unit.h"
#include "vmm/core/base.h"

#define ROOT FUSE_ROOT_ID

static struct client c;

static bool have_landlock(void)
{
    return CONFINE &&
           syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION) >= 2;
}

/* The host's file system may refuse these, but not the confinement, with EPERM. */
static void send_attribute_requests(uint64_t file)
{
    const struct fuse_getxattr_in size = { .size = 100 };
    const struct fuse_setattr_in set_id = { .valid = FATTR_MODE, .mode = 06755 };

    client_begin(&c, FUSE_SETXATTR, file);
    client_add(&c, "\5\0\0\0\0\0\0\0user.a\0value", 20);
    ck_assert_int_ne(client_send(&c), EPERM);
    ck_assert_int_ne(client_ask(&c, FUSE_GETXATTR, file, &size, sizeof(size), "user.a", NULL),
                     EPERM);
    ck_assert_int_ne(client_ask(&c, FUSE_LISTXATTR, file, &size, sizeof(size), NULL, NULL), EPERM);
    ck_assert_int_ne(client_ask(&c, FUSE_REMOVEXATTR, file, NULL, 0, "user.a", NULL), EPERM);
    ck_assert_int_eq(client_ask(&c, FUSE_SETATTR, file, &set_id, sizeof(set_id), NULL, NULL), 0);
}

/* Sends requests of all kinds, to find system calls missing in the seccomp filter. */
static void send_all_requests(bool writable)
{
    const struct fuse_mkdir_in directory = { .mode = 0777 };
    const struct fuse_create_in create = { .flags = O_RDWR, .mode = 0666 };
    const struct fuse_rename_in rename = { .newdir = ROOT };
    const struct fuse_setattr_in set = {
        .valid = FATTR_MODE | FATTR_SIZE | FATTR_MTIME | FATTR_ATIME | FATTR_UID | FATTR_GID,
        .mode = 0600,
        .size = 1,
        .uid = getuid(),
        .gid = getgid(),
    };
    const struct fuse_mknod_in fifo = { .mode = S_IFIFO | 0666, .umask = 022 };
    uint64_t file = client_lookup(&c, ROOT, "file"), handle = client_open(&c, file, O_RDONLY);

    ck_assert_int_eq(client_read(&c, FUSE_READ, file, handle, 0, 10), 0);
    ck_assert_uint_eq(client_got(&c), 4);
    ck_assert_int_eq(client_ask(&c, FUSE_STATFS, ROOT, NULL, 0, NULL, NULL), 0);
    ck_assert_int_eq(client_open_as(&c, FUSE_OPENDIR, ROOT, 0, &handle), 0);
    ck_assert_int_eq(client_read(&c, FUSE_READDIRPLUS, ROOT, handle, 0, 4096), 0);
    ck_assert_int_eq(client_getattr(&c, file), 0);
    if (!writable)
        return;
    ck_assert_int_eq(client_ask(&c, FUSE_SYMLINK, ROOT, NULL, 0, "link", "target"), 0);
    ck_assert_int_eq(client_ask(&c, FUSE_READLINK, client_entry(&c)->nodeid, NULL, 0, NULL, NULL),
                     0);
    ck_assert_int_eq(client_ask(&c, FUSE_MKDIR, ROOT, &directory, sizeof(directory), "d", NULL), 0);
    ck_assert_int_eq(
        client_ask(&c, FUSE_CREATE, client_entry(&c)->nodeid, &create, sizeof(create), "new", NULL),
        0);
    file = client_entry(&c)->nodeid;
    ck_assert_uint_eq(client_entry(&c)->attr.mode,
                      S_IFREG | 0666); /* the process's umask does not apply */
    handle = client_open(&c, file, O_RDWR | O_APPEND | O_TRUNC);
    ck_assert_int_eq(client_write(&c, file, handle, 0, "text"), 0);
    ck_assert_int_eq(client_ask(&c, FUSE_SETATTR, file, &set, sizeof(set), NULL, NULL), 0);
    ck_assert_int_eq(client_ask(&c, FUSE_RENAME, client_lookup(&c, ROOT, "d"), &rename,
                                sizeof(rename), "new", "moved"),
                     0);
    send_attribute_requests(file);
    ck_assert_int_eq(
        client_ask(&c, FUSE_SYMLINK, client_lookup(&c, ROOT, "d"), NULL, 0, "link", "../file"), 0);
    ck_assert_int_eq(
        client_ask(&c, FUSE_UNLINK, client_lookup(&c, ROOT, "d"), NULL, 0, "link", NULL), 0);
    ck_assert_int_eq(client_ask(&c, FUSE_UNLINK, ROOT, NULL, 0, "moved", NULL), 0);
    ck_assert_int_eq(client_ask(&c, FUSE_MKNOD, ROOT, &fifo, sizeof(fifo), "fifo", NULL), 0);
    ck_assert_int_eq(client_ask(&c, FUSE_RMDIR, ROOT, NULL, 0, "d", NULL), 0);
}

static void check_denied(bool writable, bool landlock)
{
    char inside[128];

    strcpy(inside, client_path(&c, "file"));
    ck_assert_int_lt(socket(AF_INET, SOCK_STREAM, 0), 0);
    ck_assert_int_eq(errno, EPERM);
    ck_assert_int_lt(execl("/bin/true", "true", (char *)NULL), 0);
    ck_assert_int_eq(errno, EPERM);
    ck_assert_int_lt(mknod(inside, S_IFREG, 0), 0);
    ck_assert_int_eq(errno, EPERM);
    ck_assert_ptr_eq(mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0),
                     MAP_FAILED);
    ck_assert_int_lt(syscall(SYS_setuid, 0), 0);
    if (!landlock)
        return;
    ck_assert_int_lt(open("/etc/passwd", O_RDONLY), 0);
    ck_assert_int_eq(errno, EACCES);
    ck_assert_int_lt(open(client_path(&c, "../secret"), O_RDONLY), 0);
    ck_assert_int_lt(open(client_path(&c, "../made"), O_WRONLY | O_CREAT, 0666), 0);
    ck_assert_int_ge(open(inside, O_RDONLY), 0);
    ck_assert_int_eq(open(inside, O_WRONLY) >= 0, writable);
    ck_assert_int_eq(open(client_path(&c, "made"), O_WRONLY | O_CREAT, 0666) >= 0, writable);
}

static void *serve(void *arg)
{
    bool writable = *(const bool *)arg;
    bool landlock = have_landlock(); /* before the seccomp filter denies this call */
    int root = open(client_path(&c, ""), O_PATH | O_DIRECTORY | O_CLOEXEC);

    confine_thread(root, writable);
    send_all_requests(writable);
    if (CONFINE)
        check_denied(writable, landlock);
    return NULL;
}

static void check_confined(bool writable)
{
    pthread_t thread;
    int fd;

    umask(077);
    client_init(&c, writable);
    client_stop(&c);
    client_start_with(&c, &(struct share_options){ .path = client_path(&c, ""),
                                                   .writable = writable,
                                                   .guarded = writable });
    client_write_file(&c, "file", "text");
    ck_assert_int_eq(pthread_create(&thread, NULL, serve, &writable), 0);
    ck_assert_int_eq(pthread_join(thread, NULL), 0);
    fd = open("/etc/passwd", O_RDONLY); /* other threads are not confined */
    ck_assert_int_ge(fd, 0);
    close(fd);
    client_finish(&c);
    if (CONFINE && !have_landlock())
        unit_skip("no Landlock that can allow renames: only the seccomp filter was tested");
}

START_TEST(confined_read_only_server)
{
    check_confined(false);
}
END_TEST

START_TEST(confined_writable_server)
{
    check_confined(true);
}
END_TEST

static void *write_all(void *arg)
{
    int root = open(client_path(&c, ""), O_PATH | O_DIRECTORY | O_CLOEXEC);
    uint64_t node;

    confine_thread(root, true);
    node = client_lookup(&c, ROOT, "written");
    ck_assert_int_eq(client_write(&c, node, client_open(&c, node, O_WRONLY), 0, "text"), 0);
    node = client_lookup(&c, ROOT, "emptied");
    client_open(&c, node, O_WRONLY | O_TRUNC);
    return NULL;
}

/* Other users of the host may run what the guest leaves there. */
START_TEST(what_the_guest_writes_to_loses_its_set_id_bits)
{
    const char *const names[] = { "written", "emptied" };
    pthread_t thread;
    struct stat stat;

    client_init(&c, true);
    for (unsigned i = 0; i < ARRAY_SIZE(names); i++) {
        client_write_file(&c, names[i], "program");
        ck_assert_int_eq(chmod(client_path(&c, names[i]), 06755), 0);
    }
    ck_assert_int_eq(pthread_create(&thread, NULL, write_all, NULL), 0);
    ck_assert_int_eq(pthread_join(thread, NULL), 0);
    for (unsigned i = 0; i < ARRAY_SIZE(names); i++) {
        ck_assert_int_eq(lstat(client_path(&c, names[i]), &stat), 0);
        ck_assert_uint_eq(stat.st_mode & 07777, 0755);
    }
    client_finish(&c);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("fs_confine");
    TCase *tcase = tcase_create("fs_confine");

    tcase_add_test(tcase, confined_read_only_server);
    tcase_add_test(tcase, confined_writable_server);
    tcase_add_test(tcase, what_the_guest_writes_to_loses_its_set_id_bits);
    suite_add_tcase(suite, tcase);
    return unit_run(suite);
}
