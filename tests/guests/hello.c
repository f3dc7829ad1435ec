/* SPDX-License-Identifier: MIT */
#include "lib/guest.h"

int main(void)
{
    print("hello from the guest\n");
    platform_power_off();
}
