/* SPDX-License-Identifier: MIT */
#ifndef VMM_CORE_CAPABILITIES_H
#define VMM_CORE_CAPABILITIES_H

#include <stdint.h>

/*
 * Drops all capabilities of the calling thread but those in `keep`, bits of CAP_* below 32, as far
 * as it has them. Threads that it creates inherit the result. Prints nothing; -errno.
 */
int capabilities_keep(uint32_t keep);

#endif
