/* SPDX-License-Identifier: MIT */
#ifndef ARCH_AARCH64_FEATURES_H
#define ARCH_AARCH64_FEATURES_H

#include <stddef.h>
#include <stdint.h>

/*
 * Writes the names, as in /proc/cpuinfo, of what the value `was` of an ID register promises and
 * `is` does not, with ", " between them, as far as there is room. `id` is the register's number:
 * op0, op1, CRn, CRm, op2, of 16 bits. "": none that has a name.
 */
void features_missing(uint16_t id, uint64_t was, uint64_t is, char *text, size_t size);

#endif
