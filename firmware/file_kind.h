/* SPDX-License-Identifier: MIT */
#ifndef FIRMWARE_FILE_KIND_H
#define FIRMWARE_FILE_KIND_H

#include <stdint.h>

#define FILE_KIND_HEAD 2048 /* bytes; zeros stand for what a shorter file does not have */

/*
 * What a file that was named as a kernel is instead, by its first bytes, and what to do about it:
 * the end of the sentence "FILE is ...".
 */
const char *file_kind(const uint8_t head[FILE_KIND_HEAD]);

#endif
