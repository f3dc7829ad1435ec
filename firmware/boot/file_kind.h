/* SPDX-License-Identifier: MIT */
#ifndef FIRMWARE_BOOT_FILE_KIND_H
#define FIRMWARE_BOOT_FILE_KIND_H

#include <stdint.h>

#define FILE_KIND_HEAD 2048 /* bytes; zeros stand for what a shorter file does not have */

/*
 * Prints what the file that was named as a kernel is instead, by its first bytes, and what to do
 * about it. `wanted` is what this machine boots: "a bzImage for x86_64". Returns -EINVAL.
 */
int file_kind_refuse(const char *path, const uint8_t head[FILE_KIND_HEAD], const char *wanted);

#endif
