/* SPDX-License-Identifier: MIT */
#ifndef FIRMWARE_BOOT_FILE_KIND_H
#define FIRMWARE_BOOT_FILE_KIND_H

#include <stdint.h>

#define FILE_KIND_HEAD 2048 /* bytes; a shorter file is padded with zeros */

/*
 * Refuses a file given as a kernel: logs what it is, judged by its first bytes, and the remedy.
 * `wanted` is what this machine boots: "a bzImage for x86_64". Returns -EINVAL.
 */
int file_kind_refuse(const char *path, const uint8_t head[FILE_KIND_HEAD], const char *wanted);

#endif
