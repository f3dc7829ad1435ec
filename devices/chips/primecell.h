/* SPDX-License-Identifier: MIT */
#ifndef DEVICES_CHIPS_PRIMECELL_H
#define DEVICES_CHIPS_PRIMECELL_H

#include <stdint.h>

/*
 * Common to Arm's PrimeCell chips: a page of 32-bit registers, the last eight of which identify the
 * chip, with one byte of the id in each.
 */
#define PRIMECELL_SIZE 0x1000 /* bytes */
#define PRIMECELL_ID   0xfe0u /* the first of these eight */

/* The value of identification register `reg`, PRIMECELL_ID or above. `part`: peripheral id. */
static inline uint32_t primecell_id(uint32_t part, unsigned reg)
{
    uint64_t id = (uint64_t)0xb105f00d << 32 | part;

    return id >> (reg - PRIMECELL_ID) / 4 * 8 & 0xff;
}

#endif
