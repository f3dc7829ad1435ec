/* SPDX-License-Identifier: MIT */
#ifndef DEVICES_CHIPS_PRIMECELL_H
#define DEVICES_CHIPS_PRIMECELL_H

#include <stdint.h>

/*
 * What Arm's PrimeCell chips have in common: a page of 32-bit registers, at whose end drivers read
 * which chip this is, a byte in each of eight registers.
 */
#define PRIMECELL_SIZE 0x1000 /* bytes */
#define PRIMECELL_ID   0xfe0u /* the first of those registers */

/* `part` is the chip's peripheral id; `reg` lies in the window, from PRIMECELL_ID on. */
static inline uint32_t primecell_id(uint32_t part, unsigned reg)
{
    uint64_t id = (uint64_t)0xb105f00d << 32 | part;

    return id >> (reg - PRIMECELL_ID) / 4 * 8 & 0xff;
}

#endif
