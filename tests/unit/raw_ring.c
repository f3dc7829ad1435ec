/* SPDX-License-Identifier: MIT */

/* What somebody who can write a disk's ring gets from it. Includes the source for the ring. */
#include "devices/block/raw_uring.c"

#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "tests/unit/unit.h"

#if HAVE_LIBURING

static struct raw_uring *u;
static struct loop *loop;
static int file;

static void setup(void)
{
    struct raw raw;
    struct block *block;
    int error;

    loop = loop_create();
    file = memfd_create("disk", MFD_CLOEXEC);
    ck_assert_int_eq(ftruncate(file, 4096), 0);
    raw = (struct raw){ .fd = file, .loop = loop };
    error = raw_uring_create(&block, &raw);
    if (error)
        unit_skip("no io_uring that can be restricted");
    u = container_of(block, struct raw_uring, raw.block);
}

static void teardown(void)
{
    block_close(&u->raw.block);
    loop_destroy(loop);
}

/* Submits the entry and returns its result. */
static int perform(const struct io_uring_sqe *wanted)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&u->ring);
    struct io_uring_cqe *cqe;
    int result;

    *sqe = *wanted;
    ck_assert_int_eq(io_uring_submit(&u->ring), 1);
    ck_assert_int_eq(io_uring_wait_cqe(&u->ring, &cqe), 0);
    result = cqe->res;
    io_uring_cqe_seen(&u->ring, cqe);
    return result;
}

START_TEST(its_own_file_can_be_read)
{
    char bytes[16];
    struct iovec iov = { bytes, sizeof(bytes) };
    struct io_uring_sqe sqe;

    io_uring_prep_readv(&sqe, 0, &iov, 1, 0);
    sqe.flags = IOSQE_FIXED_FILE;
    ck_assert_int_eq(perform(&sqe), sizeof(bytes));
}
END_TEST

START_TEST(no_file_can_be_opened)
{
    struct io_uring_sqe sqe;

    io_uring_prep_openat(&sqe, AT_FDCWD, "/etc/passwd", O_RDONLY, 0);
    ck_assert_int_eq(perform(&sqe), -EACCES);
    sqe.flags = IOSQE_FIXED_FILE;
    ck_assert_int_eq(perform(&sqe), -EACCES);
}
END_TEST

START_TEST(no_socket_can_be_made)
{
    struct io_uring_sqe sqe;

    memset(&sqe, 0, sizeof(sqe));
    sqe.opcode = 45; /* IORING_OP_SOCKET, since Linux 5.19 */
    sqe.fd = AF_INET;
    sqe.off = SOCK_STREAM;
    ck_assert_int_lt(perform(&sqe), 0);
    sqe.flags = IOSQE_FIXED_FILE;
    ck_assert_int_lt(perform(&sqe), 0);
}
END_TEST

START_TEST(no_other_descriptor_can_be_read)
{
    char bytes[16];
    struct iovec iov = { bytes, sizeof(bytes) };
    struct io_uring_sqe sqe;

    io_uring_prep_readv(&sqe, file, &iov, 1, 0);
    ck_assert_int_eq(perform(&sqe), -EACCES);
}
END_TEST

START_TEST(no_file_can_be_added)
{
    ck_assert_int_eq(raw_uring_register(u, IORING_UNREGISTER_FILES, NULL, 0), -1);
    ck_assert_int_eq(errno, EACCES);
    ck_assert_int_eq(raw_uring_register(u, IORING_REGISTER_FILES, &file, 1), -1);
    ck_assert_int_eq(errno, EACCES);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("raw_ring");
    TCase *tcase = tcase_create("raw_ring");

    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, its_own_file_can_be_read);
    tcase_add_test(tcase, no_file_can_be_opened);
    tcase_add_test(tcase, no_socket_can_be_made);
    tcase_add_test(tcase, no_other_descriptor_can_be_read);
    tcase_add_test(tcase, no_file_can_be_added);
    suite_add_tcase(suite, tcase);
    return unit_run(suite);
}

#else

int main(void)
{
    puts("1..0 # SKIP built without liburing");
    return 0;
}

#endif
