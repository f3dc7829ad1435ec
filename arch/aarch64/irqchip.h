/* SPDX-License-Identifier: MIT */
#ifndef ARCH_AARCH64_IRQCHIP_H
#define ARCH_AARCH64_IRQCHIP_H

struct vm;

/* The interrupt controller that the host can give a guest: GIC version 3, or 2. */
unsigned irqchip_version(const struct vm *vm);

#endif
