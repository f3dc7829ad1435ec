/* SPDX-License-Identifier: MIT */
#include "arch/aarch64/boot.h"

#include <errno.h>
#include <string.h>

#include "firmware/boot/arm64_image.h"
#include "firmware/hardware.h"
#include "firmware/image.h"
#include "firmware/tables/fdt.h"
#include "vmm/core/base.h"
#include "vmm/core/log.h"
#include "vmm/kvm/arch.h"

#define CMDLINE_MAX  2047  /* Linux/arm64's COMMAND_LINE_SIZE, without the NUL */
#define INITRD_ALIGN 65536 /* the largest page size of a guest */

/* Loads it just below the device tree, to leave the kernel room to grow. */
static int boot_load_initrd(struct guest_memory *mem, const struct hardware *hw,
                            const struct image *initrd, gpa_t kernel_end, struct fdt_chosen *chosen)
{
    uint64_t room = align_down(hw->fdt.base - kernel_end, INITRD_ALIGN);

    if (initrd->size > room)
        return log_refuse(ENOMEM,
                          "%s has %llu KiB, but beside the kernel there is room for %llu; raise "
                          "--memory",
                          initrd->path, (unsigned long long)(initrd->size / KIB),
                          (unsigned long long)(room / KIB));
    chosen->initrd = align_down(hw->fdt.base - initrd->size, INITRD_ALIGN);
    chosen->initrd_size = initrd->size;
    return image_load(initrd, 0, initrd->size, mem, chosen->initrd);
}

int boot_load(struct guest_memory *mem, const struct hardware *hw, const struct boot_files *files,
              gpa_t *ret_entry)
{
    struct fdt_chosen chosen = { .cmdline = files->cmdline };
    struct arm64_kernel kernel;
    int error = arm64_image_load(files->kernel, mem, hw, &kernel);

    if (!error && strlen(chosen.cmdline) > CMDLINE_MAX)
        error = log_refuse(E2BIG,
                           "the command line has %zu bytes, but an arm64 kernel accepts %d; "
                           "shorten --cmdline",
                           strlen(chosen.cmdline), CMDLINE_MAX);
    if (!error && files->initrd)
        error = boot_load_initrd(mem, hw, files->initrd, kernel.end, &chosen);
    if (error)
        return error;
    *ret_entry = kernel.entry;
    return files->dtb ? fdt_load(mem, hw, files->dtb, &chosen) : fdt_build(mem, hw, &chosen);
}
