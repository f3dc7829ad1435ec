/* SPDX-License-Identifier: MIT */
#include "firmware/init/random.h"

#include <errno.h>
#include <linux/random.h>
#include <stdint.h>

#include "firmware/init/sys.h"

#define SEED_SIZE 32 /* bytes */

/* struct rand_pool_info with its bytes; random(4). */
struct random_pool {
    int entropy_count; /* bits */
    int size;
    uint8_t bytes[SEED_SIZE];
};

static int random_digit(char digit)
{
    return digit >= '0' && digit <= '9'   ? digit - '0'
           : digit >= 'a' && digit <= 'f' ? digit - 'a' + 10
                                          : -1;
}

int random_reseed(const char *seed)
{
    struct random_pool pool = { .entropy_count = 8 * SEED_SIZE, .size = SEED_SIZE };
    int fd, error;

    for (unsigned i = 0; i < SEED_SIZE; i++) {
        int high = random_digit(seed[2 * i]);
        int low = high < 0 ? -1 : random_digit(seed[2 * i + 1]);

        if (low < 0)
            return -EINVAL;
        pool.bytes[i] = (uint8_t)(high << 4 | low);
    }
    fd = sys_open("/dev/urandom", O_RDWR);
    if (fd < 0)
        return fd;
    error = sys_ioctl(fd, RNDADDENTROPY, &pool);
    if (!error)
        error = sys_ioctl(fd, RNDRESEEDCRNG, NULL);
    sys_close(fd);
    return error == -ENODATA ? 0 : error; /* it has never been seeded before this */
}
