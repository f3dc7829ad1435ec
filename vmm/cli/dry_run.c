/* SPDX-License-Identifier: MIT */
#include "vmm/cli/dry_run.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "vmm/config/config.h"
#include "vmm/core/log.h"
#include "vmm/machine/machine.h"

static void dry_run_print_device(const struct hardware_device *device)
{
    if (device->size == 0)
        return;
    printf("  0x%010" PRIx64 "  ", device->base);
    if (device->gsi)
        printf("%-11s irq %u\n", device->name, device->gsi);
    else
        printf("%s\n", device->name);
}

int dry_run_print(const struct machine *machine)
{
    const struct hardware *hw = &machine->board.hardware;

    printf("cpus     %u\nkernel   %s\n", hw->cpus, machine->config->kernel);
    if (machine->config->initrd)
        printf("initrd   %s\n", machine->config->initrd);
    printf("cmdline  %s\nmemory\n", machine->cmdline);
    for (unsigned i = 0; i < hw->ram_ranges; i++)
        printf("  0x%010" PRIx64 " - 0x%010" PRIx64 "  %" PRIu64 " MiB\n", hw->ram[i].base,
               hw->ram[i].base + hw->ram[i].size - 1, hw->ram[i].size >> 20);
    printf("devices\n");
    dry_run_print_device(&hw->gic);
    dry_run_print_device(&hw->gic_cpus);
    dry_run_print_device(&hw->serial);
    dry_run_print_device(&hw->rtc);
    dry_run_print_device(&hw->power);
    dry_run_print_device(&hw->pm_timer);
    dry_run_print_device(&hw->pvpanic);
    dry_run_print_device(&hw->debug_exit);
    dry_run_print_device(&hw->vmgenid);
    for (unsigned i = 0; i < hw->virtio_count; i++)
        dry_run_print_device(&hw->virtio[i]);
    if (fflush(stdout) || ferror(stdout))
        return log_error(errno, "write to standard output");
    return 0;
}
