/* SPDX-License-Identifier: MIT */

/*
 * dump_acpi DIRECTORY CPUS DISKS: writes the ACPI tables of such a machine to files there, one a
 * table, for iasl to read.
 */
#include <stdio.h>

#include "firmware/acpi.h"
#include "tests/unit/pc.h"

static int dump(const struct guest_memory *mem, const char *directory, const char *signature)
{
    char path[4096];
    uint32_t size;
    const uint8_t *table = acpi_find(mem, ACPI_BASE, signature, &size);
    FILE *file;

    snprintf(path, sizeof(path), "%s/%s.aml", directory, signature);
    file = fopen(path, "wb");
    if (!table || !file || fwrite(table, 1, size, file) != size || fclose(file)) {
        perror(path);
        return -1;
    }
    return 0;
}

int main(int argc, char **argv)
{
    const char *const signatures[] = { "XSDT", "FACP", "APIC", "DSDT" };
    struct guest_memory *mem = made_memory(2 * MIB);
    struct hardware hw;

    if (argc != 4 || atoi(argv[3]) > HARDWARE_MAX_VIRTIO)
        return 2;
    hw = made_hardware(2 * MIB, (unsigned)atoi(argv[2]), (unsigned)atoi(argv[3]));
    if (acpi_build(mem, &hw) < 0)
        return 1;
    for (unsigned i = 0; i < ARRAY_SIZE(signatures); i++)
        if (dump(mem, argv[1], signatures[i]) < 0)
            return 1;
    guest_memory_destroy(mem);
    return 0;
}
