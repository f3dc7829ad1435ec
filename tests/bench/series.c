/* SPDX-License-Identifier: MIT */

/*
 * A guest that is rewound after each test of a series: prints a character when it is ready, waits
 * for a byte on the serial port, writes to some pages, none beside another, and prints another
 * character.
 */
#include "lib/guest.h"

#define PAGE  4096u
#define PAGES 500u
#define FROM  (16u << 20) /* RAM that nothing else uses */
#define EVERY 2           /* pages from one to the next */

int main(void)
{
    char byte;

    print("!");
    while (!platform_get(&byte))
        platform_relax();
    for (uintptr_t i = 0; i < PAGES; i++)
        *(volatile char *)(FROM + i * EVERY * PAGE) = byte;
    print(".");
    for (;;)
        platform_relax();
}
