/* SPDX-License-Identifier: MIT */

/* Starts as many CPUs as the command line says, one after the other. */
#include "lib/guest.h"

static unsigned running = 1;

static void secondary(void)
{
    platform_describe_cpu();
    __atomic_fetch_add(&running, 1, __ATOMIC_SEQ_CST);
}

int main(void)
{
    unsigned cpus = word_number(0);

    platform_describe_cpu();
    for (unsigned i = 1; i < cpus; i++) {
        expect(platform_start_cpu(i, secondary));
        wait_for(__atomic_load_n(&running, __ATOMIC_SEQ_CST) == i + 1);
    }
    return 0;
}
