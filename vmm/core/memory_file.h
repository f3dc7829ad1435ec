/* SPDX-License-Identifier: MIT */
#ifndef VMM_CORE_MEMORY_FILE_H
#define VMM_CORE_MEMORY_FILE_H

#include <stdint.h>

/*
 * Guest RAM in a file: the regions one after the other, with holes for pages of zeros; then one
 * page, the trailer, which tells the snapshot that it belongs to. The file is mapped, never
 * written again (MEMORY_PRIVATE_FILE).
 */
struct guest_memory;

#define MEMORY_OF_SELF (-10000) /* PIDFD_SELF in <linux/pidfd.h> of Linux 6.15 */

#define SNAPSHOT_ID_SIZE 16 /* random bytes, the same in all files of a snapshot */

/*
 * Writes all RAM to an empty file. `pagemap` is page_map_open()'s. Nothing may write to the RAM
 * meanwhile. Not synchronized to the disk. Prints nothing; -errno.
 */
int memory_file_write(const struct guest_memory *mem, int file, int pagemap,
                      const uint8_t id[SNAPSHOT_ID_SIZE]);

/*
 * Whether `file` holds `size` bytes of RAM, of the snapshot `id`. -EINVAL: it is not such a file,
 * or is truncated; -ESTALE: it is another snapshot's. Prints nothing.
 */
int memory_file_check(int file, uint64_t size, const uint8_t id[SNAPSHOT_ID_SIZE]);

/*
 * Makes all RAM what the files have that it maps: returns the pages that were written to the host.
 * Nothing may use the RAM meanwhile. -ENOTSUP, with nothing changed, unless all of it is
 * MEMORY_PRIVATE_FILE; or another -errno. What was discarded stays zero. Prints nothing.
 */
int memory_file_rewind(const struct guest_memory *mem, int pagemap);

#endif
