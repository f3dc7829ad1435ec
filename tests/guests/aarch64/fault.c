/* SPDX-License-Identifier: MIT */

/*
 * Accesses devices, and unmapped addresses, by instructions without a valid syndrome (ISV = 0),
 * which KVM cannot emulate: register pairs, and writeback addressing. Each must cause an abort in
 * the guest.
 */
#include "aarch64/arm.h"
#include "arch/aarch64/layout.h"
#include "firmware/hardware.h"
#include "lib/virtio.h"

#define CLASS_DATA_ABORT 0x25

static volatile unsigned aborts;

static bool on_fault(uint64_t syndrome)
{
    expect_equal((uint32_t)syndrome >> 26, CLASS_DATA_ABORT);
    aborts++;
    return true;
}

static void touch(uint64_t addr)
{
    unsigned before = aborts;
    uint64_t moving = addr, value;

    __asm__ volatile("ldp x1, x2, [%0]" ::"r"(addr) : "x1", "x2", "memory");
    expect_equal(aborts, before + 1);
    __asm__ volatile("stp xzr, xzr, [%0]" ::"r"(addr) : "memory");
    expect_equal(aborts, before + 2);
    __asm__ volatile("ldr %1, [%0], #8" : "+r"(moving), "=r"(value)::"memory");
    expect_equal(aborts, before + 3);
    expect_equal(moving, addr);
}

/* A virtio device's registers are read from its shadow page, so only writes abort. */
static void touch_virtio(uint64_t addr)
{
    unsigned before = aborts;
    uint64_t first, second;

    platform_write(addr + VIRTIO_MMIO_STATUS, 4, VIRTIO_CONFIG_S_ACKNOWLEDGE);
    __asm__ volatile("ldp %0, %1, [%2]" : "=&r"(first), "=r"(second) : "r"(addr) : "memory");
    expect_equal((uint32_t)first, 0x74726976);
    expect_equal(aborts, before);
    __asm__ volatile("stp xzr, xzr, [%0]" ::"r"(addr) : "memory");
    expect_equal(aborts, before + 1);
}

int main(void)
{
    arm_on_fault = on_fault;
    touch(platform_hole());
    touch(PL011_BASE);
    touch(DEBUG_EXIT_BASE);
    touch_virtio(VIRTIO_MMIO_BASE + HARDWARE_MAX_VIRTIO * VIRTIO_MMIO_STRIDE);
    print("%u aborts\n", aborts);
    return 0;
}
