/* SPDX-License-Identifier: MIT */
#include "vmm/machine/machine.h"

#include <errno.h>
#include <stdio.h>

#include "arch/x86_64/boot.h"
#include "arch/x86_64/layout.h"
#include "arch/x86_64/vcpu.h"
#include "devices/chips/acpi_power.h"
#include "devices/chips/debug_exit.h"
#include "devices/chips/i8042.h"
#include "devices/chips/pvpanic.h"
#include "devices/chips/uart16550.h"
#include "firmware/tables/acpi.h"
#include "vmm/config/config.h"
#include "vmm/core/log.h"
#include "vmm/kvm/arch.h"
#include "vmm/kvm/vcpu.h"

/* x2APIC ids above 254 would need interrupt remapping, which the guest is not given. */
#define MAX_CPUS 254

static void describe_memory(struct hardware *hw, uint64_t size)
{
    hw->ram[0].size = size < LOW_RAM_END ? size : LOW_RAM_END;
    hw->ram_ranges = 1;
    if (size > LOW_RAM_END) {
        hw->ram[1].base = HIGH_RAM_BASE;
        hw->ram[1].size = size - LOW_RAM_END;
        hw->ram_ranges = 2;
    }
}

int arch_describe(struct hardware *hw, const struct config *config)
{
    if (config->cpus > MAX_CPUS)
        return log_refuse(EINVAL, "--cpus: at most %d", MAX_CPUS);
    hw->cpus = config->cpus;
    hw->acpi = (struct hardware_range){ ACPI_BASE, ACPI_SIZE };
    hw->lapic = LAPIC_BASE;
    hw->ioapic = IOAPIC_BASE;
    hw->serial = (struct hardware_device){ COM1_PORT, COM1_SIZE, COM1_GSI, "uart16550" };
    hw->power = (struct hardware_device){ POWER_PORT, POWER_SIZE, POWER_GSI, "acpi_power" };
    hw->pvpanic = (struct hardware_device){ PVPANIC_PORT, PVPANIC_SIZE, 0, "pvpanic" };
    hw->debug_exit = (struct hardware_device){ DEBUG_EXIT_PORT, DEBUG_EXIT_SIZE, 0, "debug_exit" };
    hw->virtio_pages = (struct hardware_range){ VIRTIO_MMIO_BASE, VIRTIO_MMIO_SIZE };
    describe_memory(hw, config->memory);
    return 0;
}

int arch_place_virtio(struct hardware *hw, struct hardware_device *ret_place)
{
    unsigned n = hw->virtio_count;

    if (n == VIRTIO_GSIS)
        return -ENOSPC;
    ret_place->base = VIRTIO_MMIO_BASE + (uint64_t)n * VIRTIO_MMIO_STRIDE;
    ret_place->size = VIRTIO_MMIO_STRIDE;
    ret_place->gsi = virtio_gsi(n);
    return 0;
}

static int add_chip(struct machine *machine, struct chip *chip)
{
    if (!chip)
        return log_error(ENOMEM, "create a device");
    return machine_add_device(machine, &chip->device, &machine->ports, &chip->region);
}

int arch_add_platform(struct machine *machine)
{
    const struct hardware *hw = &machine->hardware;
    const struct event_sink *events = &machine->events;
    struct irq_line serial = vm_irq_line(&machine->vm, hw->serial.gsi);
    struct irq_line power = vm_irq_line(&machine->vm, hw->power.gsi);
    struct chip *button = acpi_power_create(hw->power.name, hw->power.base, &power, events);
    int error = add_chip(machine, button);

    if (error)
        return error;
    machine->power_button = button;
    if ((error = add_chip(machine, uart16550_create(hw->serial.name, hw->serial.base, &serial,
                                                    machine->serial))) ||
        (error = add_chip(machine, i8042_create("i8042", I8042_COMMAND_PORT, events))) ||
        (error = add_chip(machine, pvpanic_create(hw->pvpanic.name, hw->pvpanic.base, events))))
        return error;
    return add_chip(machine, debug_exit_create(hw->debug_exit.name, hw->debug_exit.base, events));
}

void arch_press_power_button(struct machine *machine)
{
    acpi_power_press_button(machine->power_button);
}

const char *arch_default_console(void)
{
    return "ttyS0";
}

int arch_boot(struct machine *machine)
{
    const struct boot_files files = {
        .kernel = &machine->kernel,
        .initrd = machine->config->initrd ? &machine->initrd : NULL,
        .cmdline = machine->cmdline,
    };
    struct boot_entry entry;
    int error = boot_load(machine->memory, &machine->hardware, &files, &entry);

    if (!error && machine->config->dump_acpi)
        error = acpi_dump(machine->memory, &machine->hardware, machine->config->dump_acpi);
    return error ? error : vcpu_enter(&machine->vm.vcpus[0], &entry);
}
