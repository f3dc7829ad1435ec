/* SPDX-License-Identifier: MIT */
#ifndef FIRMWARE_TABLES_ACPI_REGISTERS_H
#define FIRMWARE_TABLES_ACPI_REGISTERS_H

/*
 * The registers by which a guest powers off, resets and learns of the power button. ACPI leaves
 * their places to the tables (ACPI 6.3, 4.8.3.7); these are ours, as offsets from hw->power.base.
 * Each is one byte.
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

#endif
