/* SPDX-License-Identifier: MIT */
#ifndef TESTS_FUZZ_RELOAD_H
#define TESTS_FUZZ_RELOAD_H

#include <stdint.h>

#include "devices/chips/chip.h"
#include "vmm/core/state.h"

/* Saves chips, spoils a byte of that, loads it as far as it is none the worse, and goes on. */
static inline void reload_chips(struct chip **chips, unsigned count, uint16_t at, uint8_t spoil)
{
    struct state saved, s;

    state_begin_save(&saved);
    for (unsigned i = 0; i < count; i++)
        chips[i]->device.ops->state(&chips[i]->device, &saved);
    saved.bytes[at % saved.at] ^= spoil;
    state_begin_load(&s, saved.bytes, saved.at);
    for (unsigned i = 0; i < count; i++)
        chips[i]->device.ops->state(&chips[i]->device, &s);
    state_finish(&s);
    state_finish(&saved);
    for (unsigned i = 0; i < count; i++)
        chips[i]->device.ops->resume(&chips[i]->device);
}

#endif
