/* SPDX-License-Identifier: MIT */
#ifndef TESTS_GUESTS_SAME_STATE_H
#define TESTS_GUESTS_SAME_STATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * Compares the sections of two saved states (vmm/core/state.h) of one machine at rest, but for what
 * goes on while it rests: clocks, and what KVM derives from them. If they differ, says where.
 */
bool same_state(const uint8_t *a, size_t a_size, const uint8_t *b, size_t b_size, char *where,
                size_t size);

#endif
