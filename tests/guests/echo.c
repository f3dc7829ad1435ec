/* SPDX-License-Identifier: MIT */

/* Echoes input of the serial port, up to a full stop. */
#include "lib/guest.h"

int main(void)
{
    char c = 0;

    print("ready\n");
    while (c != '.') {
        if (platform_get(&c))
            platform_put(c);
        else
            platform_relax();
    }
    return 0;
}
