/* SPDX-License-Identifier: MIT */
#ifndef GUESTS_LIB_PLATFORM_H
#define GUESTS_LIB_PLATFORM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * The machine as a payload sees it; each architecture's folder implements it. It calls main() with
 * memory identity-mapped and interrupts off, and exits with the code that main() returns.
 */
struct range {
    uint64_t base;
    uint64_t size; /* bytes */
};

/* The n-th range of RAM in the firmware's tables, lowest first; false past the last one. */
bool platform_ram(unsigned index, struct range *ret);

/* RAM from here on is unused: the payload and the firmware's tables are below. */
uint64_t platform_free_ram(void);

const char *platform_cmdline(void);

/* The register base of the n-th virtio device; 0 past the last possible one. */
uintptr_t platform_virtio(unsigned index);

uint64_t platform_hole(void); /* a page in low memory without RAM or a device */

/* One access of exactly `size` bytes: 1, 2, 4 or 8. */
uint64_t platform_read(uintptr_t addr, unsigned size);
void platform_write(uintptr_t addr, unsigned size, uint64_t value);

/* The serial port, polled. */
void platform_put(char c);
bool platform_get(char *ret);

uint64_t platform_ms(void); /* monotonic */
void platform_relax(void);  /* for the body of a polling loop */

_Noreturn void platform_exit(unsigned code); /* by the debug-exit device */
_Noreturn void platform_power_off(void);
_Noreturn void platform_reset(void);
_Noreturn void platform_panic(void); /* by pvpanic */
_Noreturn void platform_stop(void);  /* halts for ever, without using CPU time */

bool platform_power_button(void); /* true if it was pressed since the last call */

/* The 16 bytes of the machine's generation ID, aligned. */
const volatile uint64_t *platform_generation(void);

/* From here on platform_new_generation() knows whether the guest was told of a new one, once. */
void platform_watch_generation(void);
bool platform_new_generation(void);

/* Prints this CPU's number and checks the topology that it reports. */
void platform_describe_cpu(void);

/* Runs `main` on CPU `index`, 1 or higher, and waits until it runs. Not from several CPUs. */
bool platform_start_cpu(unsigned index, void (*main)(void));

#endif
