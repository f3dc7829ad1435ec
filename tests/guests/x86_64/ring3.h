/* SPDX-License-Identifier: MIT */
#ifndef GUESTS_X86_64_RING3_H
#define GUESTS_X86_64_RING3_H

/*
 * For payloads that must be fast on a KVM that interprets ring 0: runs `fn` in ring 3 with all
 * memory and all registers in memory, but no ports: so no print(), and an expect() that fails ends
 * in a triple fault. Interrupts are off but in ring3_halt(). Once only.
 */
#define RING3_VECTOR 0x40 /* the one interrupt it knows */

void ring3_run(void (*fn)(void));
void ring3_halt(void); /* until an interrupt comes or one is waiting; no EOI is made */

#endif
