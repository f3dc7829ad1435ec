/* SPDX-License-Identifier: MIT */
#ifndef FIRMWARE_BOOT_PE_H
#define FIRMWARE_BOOT_PE_H

#include <assert.h>

#include "vmm/core/endian.h"

/* Headers of an EFI program (Microsoft PE and COFF Specification). */
#define PE_OFFSET 0x3c /* where a le32 tells the offset of struct pe_header */

struct pe_header {
    char magic[4]; /* "PE", NUL, NUL */
    le16 machine, sections;
    le32 date, symbols, symbol_count;
    le16 optional_size, flags; /* bytes of the optional header, which follows */
};

/* One for each section, after the optional header. */
struct pe_section {
    char name[8];
    le32 memory_size, address;
    le32 size, offset; /* in the file */
    le32 unused[4];
};
static_assert(sizeof(struct pe_header) == 24 && sizeof(struct pe_section) == 40, "PE/COFF");

#endif
