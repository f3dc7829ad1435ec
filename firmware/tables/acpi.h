/* SPDX-License-Identifier: MIT */
#ifndef FIRMWARE_TABLES_ACPI_H
#define FIRMWARE_TABLES_ACPI_H

#include "vmm/core/memory.h"

struct hardware;

/*
 * Describes the machine by hardware-reduced ACPI 6.3 tables (FADT, MADT, DSDT) in hw->acpi, the
 * RSDP first. Call it while no vCPU runs. The registers at hw->power are those of acpi_registers.h.
 * Logs the reason of a failure: -EFAULT if the range is not RAM, -ENOSPC if it is too small.
 */
int acpi_build(struct guest_memory *mem, const struct hardware *hw);

/*
 * Writes each of those tables to a file in `directory`, which exists, named like "FACP.aml". Logs
 * the reason of a failure and returns -errno.
 */
int acpi_dump(const struct guest_memory *mem, const struct hardware *hw, const char *directory);

#endif
