/* SPDX-License-Identifier: MIT */
#ifndef VMM_CORE_WRITE_H
#define VMM_CORE_WRITE_H

#include <stddef.h>
#include <stdint.h>

/* All of the bytes, at the file's position or at `offset`. 0 or -errno; -ENOSPC: none more fit. */
int write_all(int fd, const void *bytes, size_t size);
int write_all_at(int fd, const void *bytes, size_t size, uint64_t offset);

#endif
