/* SPDX-License-Identifier: MIT */
#ifndef FIRMWARE_INIT_EMBEDDED_H
#define FIRMWARE_INIT_EMBEDDED_H

#include <stddef.h>

/* The program that is the guest's init: made by embed.py from the other files in this directory. */
extern const unsigned char guest_init[];
extern const size_t guest_init_size;

#endif
