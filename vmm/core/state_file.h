/* SPDX-License-Identifier: MIT */
#ifndef VMM_CORE_STATE_FILE_H
#define VMM_CORE_STATE_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/core/memory_file.h"

/*
 * A saved state (state.h) in a file:
 *
 *     file   := header section... checksum...
 *     header := "MINIVMM\0"  u32 format  u32 machine  u64 length  id[16]  u32 sections
 *               u32 checksum
 *
 * little-endian. `machine` is the architecture as ELF numbers it, `length` that of the whole file.
 * Each section has a CRC-32C, of its length field, too; the header has one of what precedes it. The
 * file is input: it may be damaged or malicious, and correct checksums prove nothing.
 */
struct state;

struct state_file {
    uint8_t *bytes; /* the whole file; owned */
    const uint8_t *sections;
    size_t size; /* of the sections, in bytes */
    uint8_t id[SNAPSHOT_ID_SIZE];
};

/*
 * Writes a state that was saved. Not synchronized to the disk. Prints nothing; -errno: -EFBIG if it
 * is larger than state_file_read() takes.
 */
int state_file_write(int file, const struct state *s, const uint8_t id[SNAPSHOT_ID_SIZE]);

/*
 * Reads a file and checks everything but what is in the sections. `name` is for messages. Prints;
 * -errno. state_file_free() is due in any case.
 */
int state_file_read(int file, const char *name, struct state_file *ret);
void state_file_free(struct state_file *f);

/* Whether `file` begins as one, whatever follows. -1: it does not. */
bool state_file_is(int file);

/* CRC-32C (Castagnoli) of `count` bytes. */
uint32_t crc32c(const void *bytes, size_t count);

#endif
