/* SPDX-License-Identifier: MIT */
#include "lib/guest.h"

/* Ends the machine in the way that the command line names. */
int main(void)
{
    static const struct {
        const char *name;
        void (*end)(void);
    } ways[] = {
        { "power-off", platform_power_off },
        { "reset", platform_reset },
        { "panic", platform_panic },
        { "stop", platform_stop },
    };

    print("%s\n", platform_cmdline());
    if (word_is(0, "exit"))
        platform_exit(word_number(1));
    for (unsigned i = 0; i < ARRAY_SIZE(ways); i++)
        if (word_is(0, ways[i].name))
            ways[i].end();
    for (;;) /* "spin" */
        ;
}
