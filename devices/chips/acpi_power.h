/* SPDX-License-Identifier: MIT */
#ifndef DEVICES_CHIPS_ACPI_POWER_H
#define DEVICES_CHIPS_ACPI_POWER_H

#include "devices/chips/chip.h"
#include "vmm/core/event.h"
#include "vmm/core/irq.h"

/*
 * The registers a hardware-reduced ACPI platform (ACPI 6, 4.8.3.7) needs to sleep and reset, and
 * the power button. firmware/acpi.c describes them to the guest.
 */
enum {
    ACPI_POWER_SLEEP_CONTROL = 0, /* SLP_EN with sleep type S5: power off */
    ACPI_POWER_SLEEP_STATUS = 1,  /* reads 0 */
    ACPI_POWER_RESET = 2,         /* ACPI_POWER_RESET_VALUE: reset */
    ACPI_POWER_EVENTS = 3,        /* what happened; cleared by the read */
    ACPI_POWER_SIZE = 4           /* bytes */
};

enum {
    ACPI_POWER_S5 = 5,          /* the sleep type that means off */
    ACPI_POWER_RESET_VALUE = 1, /* for ACPI_POWER_RESET */
    ACPI_POWER_BUTTON = 1 << 0, /* in ACPI_POWER_EVENTS: the button was pressed */
};

/* `irq` is edge-triggered: a pulse for each event. */
struct chip *acpi_power_create(const char *name, uint64_t base, const struct irq_line *irq,
                               const struct event_sink *sink);

/* Asks the guest to power off. Any thread. */
void acpi_power_press_button(struct chip *power);

#endif
