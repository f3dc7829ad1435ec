/* SPDX-License-Identifier: MIT */
#ifndef FIRMWARE_TABLES_ACPI_REGISTERS_H
#define FIRMWARE_TABLES_ACPI_REGISTERS_H

/*
 * The registers for power-off, reset and the power button: one byte each, at these offsets from
 * hw->power.base. The FADT tells the guest their addresses (ACPI 6.3, 4.8.3.7).
 */
enum {
    ACPI_POWER_SLEEP_CONTROL = 0, /* write SLP_EN with sleep type S5: power off */
    ACPI_POWER_SLEEP_STATUS = 1,  /* reads 0 */
    ACPI_POWER_RESET = 2,         /* write ACPI_POWER_RESET_VALUE: reset */
    ACPI_POWER_EVENTS = 3,        /* pending events; cleared by the read */
    ACPI_POWER_SIZE = 4           /* bytes */
};

enum {
    ACPI_POWER_S5 = 5,          /* sleep type of S5 */
    ACPI_POWER_RESET_VALUE = 1, /* written to ACPI_POWER_RESET */
    ACPI_POWER_BUTTON = 1 << 0, /* in ACPI_POWER_EVENTS: the button was pressed */
};

#endif
