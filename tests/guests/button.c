/* SPDX-License-Identifier: MIT */

/* Powers off when the power button is pressed, as an operating system would. */
#include "lib/guest.h"

int main(void)
{
    print("ready\n");
    while (!platform_power_button())
        platform_relax();
    print("pressed\n");
    platform_power_off();
}
