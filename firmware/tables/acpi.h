/* SPDX-License-Identifier: MIT */
#ifndef FIRMWARE_TABLES_ACPI_H
#define FIRMWARE_TABLES_ACPI_H

#include "vmm/core/memory.h"

struct hardware;

/*
 * Writes the machine as hardware-reduced ACPI 6.3 tables (FADT, MADT, DSDT) into hw->acpi, the RSDP
 * at its start. The vCPUs are not running. -EFAULT or -ENOSPC if that is no RAM or too small;
 * prints. The registers behind hw->power are those of acpi_registers.h.
 */
int acpi_build(struct guest_memory *mem, const struct hardware *hw);

/* Writes each of those tables into a file of `directory`, named "FACP.aml". Prints; -errno. */
int acpi_dump(const struct guest_memory *mem, const struct hardware *hw, const char *directory);

#endif
