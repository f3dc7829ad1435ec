/* SPDX-License-Identifier: MIT */
#ifndef GUESTS_AARCH64_ARM_H
#define GUESTS_AARCH64_ARM_H

#include <stdbool.h>
#include <stdint.h>

/* For payloads that test Arm features. */

#define system_read(name)                                 \
    __extension__({                                       \
        uint64_t value_;                                  \
        __asm__ volatile("mrs %0, " name : "=r"(value_)); \
        value_;                                           \
    })
#define system_write(name, value) \
    __asm__ volatile("msr " name ", %0; isb" ::"r"((uint64_t)(value)) : "memory")

/* Exception handlers; with NULL an exception ends the payload. */
extern bool (*arm_on_fault)(uint64_t syndrome); /* true: skip the instruction */
extern void (*arm_on_interrupt)(void);

/* Registers of the GIC's distributor. */
enum {
    GICD_CTLR = 0,
    GICD_IGROUPR = 0x80,
    GICD_ISENABLER = 0x100,
    GICD_ISPENDR = 0x200,
    GICD_ICFGR = 0xc00,
};
#define GICD_ICFGR_EDGE 2u
#define FIRST_SPI       32 /* its number as an interrupt */

/* Sets bits in the field of interrupt `number`, of `bits_each` bits, from register `reg` on. */
void gic_set(unsigned reg, unsigned bits_each, unsigned number, uint32_t value);

#endif
