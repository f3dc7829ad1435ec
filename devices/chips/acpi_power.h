/* SPDX-License-Identifier: MIT */
#ifndef DEVICES_CHIPS_ACPI_POWER_H
#define DEVICES_CHIPS_ACPI_POWER_H

#include "devices/chips/chip.h"
#include "vmm/core/event.h"
#include "vmm/core/irq.h"

/*
 * Power-off, reset and the power button of a hardware-reduced ACPI platform. The registers are in
 * firmware/tables/acpi_registers.h.
 *
 * `irq` is edge-triggered and pulsed for each event. NULL: out of memory.
 */
struct chip *acpi_power_create(const char *name, uint64_t base, const struct irq_line *irq,
                               const struct event_sink *sink);

/* Presses the power button, which asks the guest to power off. Any thread. */
void acpi_power_press_button(struct chip *power);

#endif
