/* SPDX-License-Identifier: MIT */
#ifndef ARCH_AARCH64_IRQCHIP_H
#define ARCH_AARCH64_IRQCHIP_H

struct state;
struct vm;

#define FIRST_SPI 32 /* the GIC's interrupt ID of SPI 0 */

/* The GIC version that the host can emulate: 3, otherwise 2. */
unsigned irqchip_version(const struct vm *vm);

/*
 * Saves the GIC's state or loads it, as one section. After the vCPUs' registers, one of which tells
 * how the GIC numbers the vCPU.
 */
void irqchip_state(struct vm *vm, struct state *s);

#endif
