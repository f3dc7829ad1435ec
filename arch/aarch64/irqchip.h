/* SPDX-License-Identifier: MIT */
#ifndef ARCH_AARCH64_IRQCHIP_H
#define ARCH_AARCH64_IRQCHIP_H

struct vm;

/* The GIC version that the host can emulate: 3, otherwise 2. */
unsigned irqchip_version(const struct vm *vm);

#endif
