/* SPDX-License-Identifier: MIT */

/* dump_acpi DIRECTORY CPUS DISKS: writes that machine's ACPI tables, for iasl. */
#include "firmware/tables/acpi.h"
#include "tests/unit/pc.h"

int main(int argc, char **argv)
{
    struct guest_memory *mem = made_memory(2 * MIB);
    struct hardware hw;

    if (argc != 4 || atoi(argv[3]) > HARDWARE_MAX_VIRTIO)
        return 2;
    hw = made_hardware(2 * MIB, (unsigned)atoi(argv[2]), (unsigned)atoi(argv[3]));
    if (acpi_build(mem, &hw) < 0 || acpi_dump(mem, &hw, argv[1]) < 0)
        return 1;
    guest_memory_destroy(mem);
    return 0;
}
