/* SPDX-License-Identifier: MIT */
#ifndef GUESTS_X86_64_RING3_H
#define GUESTS_X86_64_RING3_H

/*
 * For payloads that must be fast on a KVM that interprets ring 0: runs `fn` in ring 3, with access
 * to all memory and MMIO but no ports. So it cannot print(), and a failing expect() ends in a
 * triple fault. Interrupts are off except in ring3_halt(). Can be called once only.
 */
#define RING3_VECTOR 0x40 /* the only interrupt vector it handles */

void ring3_run(void (*fn)(void));
void ring3_halt(void); /* until an interrupt arrives or is pending; sends no EOI */

#endif
