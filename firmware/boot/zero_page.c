/* SPDX-License-Identifier: MIT */
#include "firmware/boot/zero_page.h"

#include <assert.h>
#include <errno.h>
#include <sys/random.h>

#include "firmware/hardware.h"
#include "vmm/core/endian.h"
#include "vmm/core/log.h"

#define LOADER_UNKNOWN 0xff   /* no loader number is assigned to minivmm */
#define VIDEO_NORMAL   0xffff /* "vga=normal": nothing to switch */

static_assert(sizeof(struct boot_params) == 4096, "the zero page is a page");

/* One entry of the list at setup_header.setup_data (struct setup_data). */
struct seed_node {
    le64 next;
    le32 type, size;
    uint8_t seed[32];
};
static_assert(sizeof(struct seed_node) == 48, "Linux, boot.rst");

/* The fields that a kernel without a setup header (an ELF file) still reads. */
static const struct setup_header plain_header = {
    .boot_flag = 0xaa55,
    .header = 0x53726448, /* "HdrS" */
    .version = 0x20c,
    .loadflags = LOADED_HIGH,
    .kernel_alignment = 0x1000000,
};

static void zero_page_fill_header(struct setup_header *header, const struct pc_boot_data *data,
                                  gpa_t seed)
{
    header->type_of_loader = LOADER_UNKNOWN;
    header->vid_mode = VIDEO_NORMAL;
    header->ramdisk_image = (uint32_t)data->initrd;
    header->ramdisk_size = (uint32_t)data->initrd_size;
    header->cmd_line_ptr = (uint32_t)data->cmdline;
    header->setup_data = seed;
}

static void zero_page_fill_e820(struct boot_params *params, const struct hardware *hw)
{
    struct pc_range ranges[PC_MAX_RANGES];

    params->e820_entries = (uint8_t)pc_memory_map(hw, ranges);
    for (unsigned i = 0; i < params->e820_entries; i++)
        params->e820_table[i] = (struct boot_e820_entry){ .addr = ranges[i].base,
                                                          .size = ranges[i].size,
                                                          .type = ranges[i].type };
}

/* Kernels since 6.0 feed it to their random pool; older ones skip it. */
static int zero_page_write_seed(struct guest_memory *mem, gpa_t gpa)
{
    struct seed_node node = { 0 };

    le32_store(&node.type, SETUP_RNG_SEED);
    le32_store(&node.size, sizeof(node.seed));
    if (getrandom(node.seed, sizeof(node.seed), 0) != sizeof(node.seed))
        return log_error(errno, "get random bytes");
    return guest_write(mem, gpa, &node, sizeof(node));
}

int zero_page_write(struct guest_memory *mem, gpa_t gpa, gpa_t seed, const struct hardware *hw,
                    const struct setup_header *header, const struct pc_boot_data *data)
{
    struct boot_params params = {
        .hdr = header ? *header : plain_header,
        .acpi_rsdp_addr = hw->acpi.base,
    };
    int error = zero_page_write_seed(mem, seed);

    if (error)
        return error;
    zero_page_fill_header(&params.hdr, data, seed);
    zero_page_fill_e820(&params, hw);
    return guest_write(mem, gpa, &params, sizeof(params));
}
