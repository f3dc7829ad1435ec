/* SPDX-License-Identifier: MIT */
#include "firmware/boot/pvh.h"

#include <assert.h>
#include <stddef.h>

#include "firmware/hardware.h"
#include "vmm/core/endian.h"

#define PVH_MAGIC   0x336ec578 /* "xEn3", bit 7 of the E set */
#define PVH_VERSION 1

struct pvh_start_info {
    le32 magic, version, flags, modules;
    le64 module_list, cmdline, rsdp, memory_map;
    le32 memory_ranges, reserved;
};
static_assert(sizeof(struct pvh_start_info) == 56, "Xen's start_info.h");

struct pvh_module {
    le64 base, size, cmdline, reserved;
};

struct pvh_range {
    le64 base, size;
    le32 type, reserved;
};
static_assert(sizeof(struct pvh_range) == 24, "Xen's start_info.h");

/* Start info, module list and memory map in one piece: the addresses are offsets from it. */
struct pvh_page {
    struct pvh_start_info info;
    struct pvh_module initrd;
    struct pvh_range ranges[PC_MAX_RANGES];
};

static unsigned pvh_fill_map(struct pvh_range *out, const struct hardware *hw)
{
    struct pc_range ranges[PC_MAX_RANGES];
    unsigned count = pc_memory_map(hw, ranges);

    for (unsigned i = 0; i < count; i++) {
        le64_store(&out[i].base, ranges[i].base);
        le64_store(&out[i].size, ranges[i].size);
        le32_store(&out[i].type, ranges[i].type);
    }
    return count;
}

int pvh_write(struct guest_memory *mem, gpa_t gpa, const struct hardware *hw,
              const struct pc_boot_data *data)
{
    struct pvh_page page = { 0 };

    le32_store(&page.info.magic, PVH_MAGIC);
    le32_store(&page.info.version, PVH_VERSION);
    le64_store(&page.info.cmdline, data->cmdline);
    le64_store(&page.info.rsdp, hw->acpi.base);
    le64_store(&page.info.memory_map, gpa + offsetof(struct pvh_page, ranges));
    le32_store(&page.info.memory_ranges, pvh_fill_map(page.ranges, hw));
    if (data->initrd_size > 0) {
        le32_store(&page.info.modules, 1);
        le64_store(&page.info.module_list, gpa + offsetof(struct pvh_page, initrd));
        le64_store(&page.initrd.base, data->initrd);
        le64_store(&page.initrd.size, data->initrd_size);
    }
    return guest_write(mem, gpa, &page, sizeof(page));
}
