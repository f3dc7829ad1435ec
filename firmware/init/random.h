/* SPDX-License-Identifier: MIT */
#ifndef FIRMWARE_INIT_RANDOM_H
#define FIRMWARE_INIT_RANDOM_H

/*
 * Gives the kernel's random number generator the host's seed, in hexadecimal digits, and makes it
 * use that at once: machines that go on from one snapshot would draw the same numbers. 0 or -errno.
 */
int random_reseed(const char *seed);

#endif
