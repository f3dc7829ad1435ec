/* SPDX-License-Identifier: MIT */

#include <errno.h>
#include <stdio.h>

#include "arch/x86_64/boot.h"
#include "arch/x86_64/cpuid.h"
#include "arch/x86_64/layout.h"
#include "arch/x86_64/vcpu.h"
#include "devices/chips/acpi_power.h"
#include "devices/chips/debug_exit.h"
#include "devices/chips/i8042.h"
#include "devices/chips/i8254.h"
#include "devices/chips/mc146818.h"
#include "devices/chips/pm_timer.h"
#include "devices/chips/port92.h"
#include "devices/chips/pvpanic.h"
#include "devices/chips/uart16550.h"
#include "devices/chips/vmgenid.h"
#include "firmware/tables/acpi.h"
#include "firmware/tables/acpi_registers.h"
#include "vmm/board/board.h"
#include "vmm/core/endian.h"
#include "vmm/core/log.h"
#include "vmm/kvm/arch.h"
#include "vmm/kvm/vcpu.h"
#include "vmm/kvm/vm.h"

/* x2APIC ids above 254 need interrupt remapping, which the machine does not have. */
#define MAX_CPUS 254

static void arch_describe_memory(struct hardware *hw, uint64_t size)
{
    hw->ram[0].size = size < PC_LOW_RAM_END ? size : PC_LOW_RAM_END;
    hw->ram_ranges = 1;
    if (size > PC_LOW_RAM_END) {
        hw->ram[1].base = HIGH_RAM_BASE;
        hw->ram[1].size = size - PC_LOW_RAM_END;
        hw->ram_ranges = 2;
    }
}

int arch_describe(struct hardware *hw, unsigned cpus, uint64_t memory)
{
    if (cpus > MAX_CPUS)
        return log_refuse(EINVAL, "--cpus: at most %d", MAX_CPUS);
    hw->cpus = cpus;
    hw->acpi = (struct hardware_range){ ACPI_BASE, ACPI_SIZE };
    hw->lapic = LAPIC_BASE;
    hw->ioapic = IOAPIC_BASE;
    hw->serial = (struct hardware_device){ COM1_PORT, COM1_SIZE, COM1_GSI, "uart16550" };
    hw->power = (struct hardware_device){ POWER_PORT, ACPI_POWER_SIZE, POWER_GSI, "acpi_power" };
    hw->rtc = (struct hardware_device){ RTC_PORT, MC146818_SIZE, 0, "mc146818" };
    hw->pm_timer = (struct hardware_device){ PM_TIMER_PORT, PM_TIMER_SIZE, 0, "pm_timer" };
    hw->pvpanic = (struct hardware_device){ PVPANIC_PORT, PVPANIC_SIZE, 0, "pvpanic" };
    hw->debug_exit = (struct hardware_device){ DEBUG_EXIT_PORT, DEBUG_EXIT_SIZE, 0, "debug_exit" };
    hw->vmgenid = (struct hardware_device){ VMGENID_BASE, VMGENID_SIZE, VMGENID_GSI, "vmgenid" };
    hw->virtio_pages = (struct hardware_range){ VIRTIO_MMIO_BASE, VIRTIO_PAGES_SIZE };
    arch_describe_memory(hw, memory);
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

static void arch_press_power_button(void *owner)
{
    acpi_power_press_button(owner);
}

int arch_add_platform(struct board *board)
{
    const struct hardware *hw = &board->hardware;
    const struct event_sink *events = &board->host.events;
    struct irq_line serial = board_irq(board, hw->serial.gsi);
    struct irq_line power = board_irq(board, hw->power.gsi);
    struct chip *button = acpi_power_create(hw->power.name, hw->power.base, &power, events);
    struct bus *ports = &board->ports;
    int error = board_add_chip(board, button, ports);

    if (error)
        return error;
    board->press_power_button = arch_press_power_button;
    board->power_button = button;
    if ((error = board_add_chip(
             board, uart16550_create(hw->serial.name, hw->serial.base, &serial, board->serial),
             ports)) ||
        (error = board_add_chip(board, i8254_create("i8254", I8254_PORT), ports)) ||
        (error = board_add_chip(board, mc146818_create(hw->rtc.name, hw->rtc.base), ports)) ||
        (error =
             board_add_chip(board, pm_timer_create(hw->pm_timer.name, hw->pm_timer.base), ports)) ||
        (error = board_add_chip(board, i8042_create("i8042", I8042_COMMAND_PORT, events), ports)) ||
        (error = board_add_chip(board, port92_create("port92", PORT92_PORT, events), ports)) ||
        (error = board_add_chip(board, pvpanic_create(hw->pvpanic.name, hw->pvpanic.base, events),
                                ports)))
        return error;
    return board_add_chip(
        board, debug_exit_create(hw->debug_exit.name, hw->debug_exit.base, events), ports);
}

const char *arch_default_console(void)
{
    return "ttyS0";
}

bool arch_reset_is_warm(const struct vm *vm)
{
    le16 flag;

    return guest_read(vm->mem, RESET_FLAG, &flag, sizeof(flag)) == 0 &&
           le16_load(&flag) == RESET_FLAG_WARM;
}

int arch_try_boot(struct guest_memory *mem, const struct hardware *hw,
                  const struct boot_files *files)
{
    struct boot_entry entry;

    return boot_load(mem, hw, files, &entry);
}

int arch_boot(struct vm *vm, struct guest_memory *mem, struct hardware *hw,
              const struct boot_files *files)
{
    struct boot_entry entry;
    int error;

    hw->tsc_khz = cpuid_tsc_khz(vm);
    hw->la57 = files->unpacked && cpuid_has_la57(vm);
    error = boot_load(mem, hw, files, &entry);
    if (!error && files->dump)
        error = acpi_dump(mem, hw, files->dump);
    return error ? error : vcpu_set_entry(&vm->vcpus[0], &entry);
}
