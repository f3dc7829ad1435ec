/* SPDX-License-Identifier: MIT */

/* dump_fdt FILE CPUS DISKS GIC: writes that machine's device tree, for dtc. */
#include <stdlib.h>

#include "firmware/tables/fdt.h"
#include "tests/unit/arm.h"

int main(int argc, char **argv)
{
    const struct fdt_chosen chosen = { "console=ttyAMA0", RAM_BASE + MIB, 4096 };
    struct guest_memory *mem = made_ram(RAM_BASE, 16 * MIB);
    struct hardware hw;

    if (argc != 5 || atoi(argv[3]) > HARDWARE_MAX_VIRTIO)
        return 2;
    hw = made_arm(16 * MIB, (unsigned)atoi(argv[2]), (unsigned)atoi(argv[3]));
    hw.gic_version = (unsigned)atoi(argv[4]);
    if (fdt_build(mem, &hw, &chosen) < 0 || fdt_dump(mem, &hw, argv[1]) < 0)
        return 1;
    guest_memory_destroy(mem);
    return 0;
}
