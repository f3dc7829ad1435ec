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

#endif
