/* SPDX-License-Identifier: MIT */

/*
 * Prints the machine's generation, waits until it is another, as in a machine that was restored,
 * and until the interrupt is raised that tells of it, and prints the new one. Then it waits for a
 * key and resets the machine.
 */
#include "lib/guest.h"

static void print_generation(const char *what, const volatile uint64_t id[2])
{
    print("%s %lx %lx\n", what, id[0], id[1]);
}

int main(void)
{
    const volatile uint64_t *id = platform_generation();
    uint64_t first[2] = { id[0], id[1] };
    char key;

    platform_watch_generation();
    expect(!platform_new_generation());
    print_generation("booted", id);
    while (id[0] == first[0] && id[1] == first[1])
        platform_relax();
    wait_for(platform_new_generation());
    print_generation("restored", id);
    while (!platform_get(&key))
        platform_relax();
    platform_reset();
}
