/* SPDX-License-Identifier: MIT */
#include "devices/fs/budget.h"

#include <errno.h>
#include <sys/resource.h>

/* Linux: fuse_inode, more than 800 bytes, and a dentry; a file and a fuse_file: half of it. */
#define RAM_PER_OBJECT 1024u

#define OBJECTS_MIN     4096u
#define OBJECTS_MAX     (1u << 30) /* slots.c uses 32-bit indices */
#define DIRECTORIES_MAX 256u       /* more would not help */
#define DESCRIPTORS_MIN 16u        /* of each share */

/* The number of descriptors the process may have, after raising it. */
static uint64_t budget_raise_limit(void)
{
    struct rlimit limit;
    rlim_t before;

    if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
        return 0;
    before = limit.rlim_cur;
    limit.rlim_cur = limit.rlim_max;
    return setrlimit(RLIMIT_NOFILE, &limit) < 0 ? before : limit.rlim_cur;
}

int budget_init(struct share_budget *budget, uint64_t ram, unsigned shares)
{
    uint64_t limit = budget_raise_limit(), objects = ram / RAM_PER_OBJECT;
    uint64_t descriptors = (limit < INT32_MAX ? limit : INT32_MAX) / 4 * 3;

    if (objects < OBJECTS_MIN)
        objects = OBJECTS_MIN;
    *budget = (struct share_budget){
        .objects.max = objects < OBJECTS_MAX ? (uint32_t)objects : OBJECTS_MAX,
    };
    if (shares == 0)
        return 0;
    if (descriptors / shares < DESCRIPTORS_MIN)
        return -EMFILE;
    budget->directories = (unsigned)(descriptors / shares / 4);
    if (budget->directories > DIRECTORIES_MAX)
        budget->directories = DIRECTORIES_MAX;
    budget->descriptors.max =
        (unsigned)descriptors - (budget->directories + BUDGET_OWN_DESCRIPTORS) * shares;
    return 0;
}

bool budget_take(struct budget_part *part)
{
    return __atomic_add_fetch(&part->used, 1, __ATOMIC_RELAXED) <= part->max;
}

void budget_put(struct budget_part *part)
{
    __atomic_sub_fetch(&part->used, 1, __ATOMIC_RELAXED);
}
