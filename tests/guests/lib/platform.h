/* SPDX-License-Identifier: MIT */
#ifndef GUESTS_LIB_PLATFORM_H
#define GUESTS_LIB_PLATFORM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * What a payload is told about the machine it runs on, and the few things only an instruction or a
 * chip of that machine can do. An architecture's folder implements it and calls main() with memory
 * mapped one to one, interrupts off, and leaves by the exit code that main() returns.
 */
struct range {
    uint64_t base;
    uint64_t size; /* bytes */
};

/* RAM as the firmware describes it, lowest first; false past the last one. */
bool platform_ram(unsigned index, struct range *ret);

/* From here on RAM is nobody's: below lie the payload and what the firmware has to tell. */
uint64_t platform_free(void);

const char *platform_cmdline(void);

/* The registers of the n-th virtio device; 0 past the last possible one. */
uintptr_t platform_virtio(unsigned index);

uint64_t platform_hole(void); /* an address in low memory with nothing behind it, a page wide */

/* One access of exactly `size` bytes: 1, 2, 4 or 8. */
uint64_t platform_read(uintptr_t addr, unsigned size);
void platform_write(uintptr_t addr, unsigned size, uint64_t value);

/* The serial port, polled. */
void platform_put(char c);
bool platform_get(char *ret);

uint64_t platform_ms(void); /* since some moment */
void platform_relax(void);  /* inside a loop that waits */

_Noreturn void platform_exit(unsigned code); /* by the debug-exit device */
_Noreturn void platform_power_off(void);
_Noreturn void platform_reset(void);
_Noreturn void platform_panic(void); /* by pvpanic */
_Noreturn void platform_stop(void);  /* nothing happens any more, and no CPU time passes */

bool platform_power_button(void); /* was it pressed since the last time? */

/* Prints which CPU this is and checks what it says of its place among the others. */
void platform_describe_cpu(void);

/* Runs `main` on CPU `index`, from 1 on, one start at a time; true once it runs. */
bool platform_start_cpu(unsigned index, void (*main)(void));

#endif
