/* SPDX-License-Identifier: MIT */
#ifndef DEVICES_BLOCK_FORMAT_H
#define DEVICES_BLOCK_FORMAT_H

#include <stdint.h>

/*
 * Refuses a file that looks like anything but a raw disk image: an image of another format, or a
 * compressed one. Taken as raw, the first write would destroy it. `size` is the file's, in bytes.
 * Prints the remedy; -EINVAL. The answer is never used to interpret the file: a guest can write
 * such bytes to a raw disk, and can thereby only have it refused. A file that cannot be read
 * passes.
 */
int format_check(int fd, uint64_t size, const char *path);

#endif
