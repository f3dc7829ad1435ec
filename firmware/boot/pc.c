/* SPDX-License-Identifier: MIT */
#include "firmware/boot/pc.h"

#include <assert.h>
#include <errno.h>

#include "firmware/hardware.h"
#include "firmware/image.h"
#include "vmm/core/base.h"
#include "vmm/core/log.h"

unsigned pc_memory_map(const struct hardware *hw, struct pc_range ret_ranges[PC_MAX_RANGES])
{
    unsigned count = 0;

    assert(hw->ram[0].base == 0 && hw->ram[0].size > PC_HIGH_RAM);
    ret_ranges[count++] = (struct pc_range){ 0, PC_HOLE_BASE, PC_RAM };
    ret_ranges[count++] = (struct pc_range){ hw->acpi.base, hw->acpi.size, PC_ACPI };
    ret_ranges[count++] =
        (struct pc_range){ PC_BIOS_BASE, PC_HIGH_RAM - PC_BIOS_BASE, PC_RESERVED };
    ret_ranges[count++] = (struct pc_range){ PC_HIGH_RAM, hw->ram[0].size - PC_HIGH_RAM, PC_RAM };
    if (hw->ram_ranges > 1)
        ret_ranges[count++] = (struct pc_range){ hw->ram[1].base, hw->ram[1].size, PC_RAM };
    return count;
}

gpa_t pc_ram_end(const struct hardware *hw)
{
    return hw->ram[0].size;
}

int pc_check_kernel(const struct hardware *hw, const struct image *kernel, gpa_t base,
                    uint64_t size)
{
    gpa_t end = pc_ram_end(hw);

    if (base >= PC_HIGH_RAM && base <= end && size <= end - base)
        return 0;
    if (base < PC_HIGH_RAM)
        return log_refuse(EINVAL, "%s loads at %#llx; kernels must load above %u KiB", kernel->path,
                          (unsigned long long)base, (unsigned)(PC_HIGH_RAM / KIB));
    if (base > PC_LOW_RAM_END || size > PC_LOW_RAM_END - base)
        return log_refuse(EINVAL,
                          "%s is damaged or not for this machine: needs %#llx bytes at %#llx",
                          kernel->path, (unsigned long long)size, (unsigned long long)base);
    return log_refuse(ENOMEM, "%s needs %llu MiB of memory, the guest has %llu; raise --memory",
                      kernel->path, (unsigned long long)(align_up(base + size, MIB) / MIB),
                      (unsigned long long)(end / MIB));
}
