/* SPDX-License-Identifier: MIT */

#include <errno.h>
#include <stdio.h>

#include "arch/aarch64/boot.h"
#include "arch/aarch64/irqchip.h"
#include "arch/aarch64/layout.h"
#include "arch/aarch64/vcpu.h"
#include "devices/chips/debug_exit.h"
#include "devices/chips/pl011.h"
#include "devices/chips/pl031.h"
#include "devices/chips/pvpanic.h"
#include "devices/virtio/input.h"
#include "firmware/tables/fdt.h"
#include "vmm/board/board.h"
#include "vmm/core/log.h"
#include "vmm/kvm/arch.h"
#include "vmm/kvm/vcpu.h"
#include "vmm/kvm/vm.h"

static struct hardware_device arch_virtio_place(unsigned n)
{
    return (struct hardware_device){ VIRTIO_MMIO_BASE + (uint64_t)n * VIRTIO_MMIO_STRIDE,
                                     VIRTIO_MMIO_STRIDE, VIRTIO_SPI_FIRST + n, "power" };
}

static void arch_describe_memory(struct hardware *hw, uint64_t size)
{
    uint64_t reachable = size < BOOT_WINDOW - RAM_BASE ? size : BOOT_WINDOW - RAM_BASE;

    hw->ram[0] = (struct hardware_range){ RAM_BASE, size };
    hw->ram_ranges = 1;
    hw->fdt.base = align_down(RAM_BASE + reachable - FDT_SIZE, FDT_SIZE);
    hw->fdt.size = FDT_SIZE - VMGENID_PAGE;
    hw->vmgenid = (struct hardware_device){ hw->fdt.base + hw->fdt.size, VMGENID_PAGE, VMGENID_SPI,
                                            "vmgenid" };
}

static void arch_describe_gic(struct hardware *hw, unsigned version)
{
    hw->gic_version = version;
    hw->gic = (struct hardware_device){ GIC_DIST_BASE, GIC_DIST_SIZE, 0, "gic" };
    if (version == 3)
        hw->gic_cpus =
            (struct hardware_device){ GIC_REDIST_BASE, (uint64_t)hw->cpus * GIC_REDIST_SIZE, 0,
                                      "gic_redist" };
    else
        hw->gic_cpus = (struct hardware_device){ GIC_CPU_BASE, GIC_CPU_SIZE, 0, "gic_cpu" };
}

/* Assumes a GICv3; arch_boot() corrects that once /dev/kvm is open. */
int arch_describe(struct hardware *hw, unsigned cpus, uint64_t memory)
{
    if (cpus > MAX_CPUS)
        return log_refuse(EINVAL, "--cpus: at most %d", MAX_CPUS);
    hw->cpus = cpus;
    hw->serial = (struct hardware_device){ PL011_BASE, PL011_SIZE, PL011_SPI, "pl011" };
    hw->rtc = (struct hardware_device){ PL031_BASE, PL031_SIZE, 0, "pl031" };
    hw->pvpanic = (struct hardware_device){ PVPANIC_BASE, PVPANIC_SIZE, 0, "pvpanic" };
    hw->debug_exit = (struct hardware_device){ DEBUG_EXIT_BASE, DEBUG_EXIT_SIZE, 0, "debug_exit" };
    hw->power = arch_virtio_place(HARDWARE_MAX_VIRTIO);
    arch_describe_gic(hw, 3);
    hw->virtio_pages = (struct hardware_range){ VIRTIO_MMIO_BASE, VIRTIO_PAGES_SIZE };
    arch_describe_memory(hw, memory);
    return 0;
}

int arch_place_virtio(struct hardware *hw, struct hardware_device *ret_place)
{
    *ret_place = arch_virtio_place(hw->virtio_count);
    return 0;
}

static void arch_press_power_button(void *owner)
{
    virtio_input_press(owner);
}

/* A key of a virtio keyboard: the one button that every distribution's kernel has a driver for. */
static int arch_add_power_button(struct board *board)
{
    const struct hardware_device *place = &board->hardware.power;
    struct virtio_device *button;
    int error = virtio_input_create(&button, place->name, board->host.memory, board->host.loop);

    if (error)
        return log_error(-error, "%s", place->name);
    error = board_add_virtio(board, place, button);
    board->press_power_button = arch_press_power_button;
    board->power_button = button;
    return error;
}

int arch_add_platform(struct board *board)
{
    const struct hardware *hw = &board->hardware;
    const struct event_sink *events = &board->host.events;
    struct irq_line serial = board_irq(board, hw->serial.gsi);
    struct bus *mmio = &board->mmio;
    int error;

    if ((error = board_add_chip(
             board, pl011_create(hw->serial.name, hw->serial.base, &serial, board->serial),
             mmio)) ||
        (error = board_add_chip(board, pl031_create(hw->rtc.name, hw->rtc.base), mmio)) ||
        (error = board_add_chip(board, pvpanic_create(hw->pvpanic.name, hw->pvpanic.base, events),
                                mmio)) ||
        (error = board_add_chip(
             board, debug_exit_create(hw->debug_exit.name, hw->debug_exit.base, events), mmio)))
        return error;
    return arch_add_power_button(board);
}

const char *arch_default_console(void)
{
    return "ttyAMA0";
}

int arch_try_boot(struct guest_memory *mem, const struct hardware *hw,
                  const struct boot_files *files)
{
    gpa_t entry;

    return boot_load(mem, hw, files, &entry);
}

int arch_boot(struct vm *vm, struct guest_memory *mem, struct hardware *hw,
              const struct boot_files *files)
{
    gpa_t entry;
    int error;

    arch_describe_gic(hw, irqchip_version(vm));
    hw->pmu = vcpu_has_pmu(vm);
    error = boot_load(mem, hw, files, &entry);
    if (!error && files->dump)
        error = fdt_dump(mem, hw, files->dump);
    return error ? error : vcpu_set_entry(&vm->vcpus[0], entry, hw->fdt.base);
}
