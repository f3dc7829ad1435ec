/* SPDX-License-Identifier: MIT */
#include "board.h"

#include "arch/x86_64/layout.h"
#include "x86_64/ring3.h"
#include "x86_64/x86.h"

#define LAPIC_ON 0x1ffu

/* Virtio devices and I/O APIC of minivmm and of QEMU's microvm. */
struct board {
    uintptr_t base, stride;
    unsigned count;
    uintptr_t ioapic;
};
static const struct board boards[] = {
    { VIRTIO_MMIO_BASE, VIRTIO_MMIO_STRIDE, VIRTIO_GSIS, IOAPIC_BASE },
    { 0xfeb00000, 0x200, 24, 0xfec10000 },
};

static unsigned ioapic_pin(const struct board *board, unsigned index)
{
    return board == boards ? virtio_gsi(index) : index;
}

/* Routes edges on this pin to RING3_VECTOR on CPU 0. */
static void route(const struct board *board, unsigned pin)
{
    platform_write(board->ioapic, 4, 0x11 + 2 * pin);
    platform_write(board->ioapic + 0x10, 4, 0);
    platform_write(board->ioapic, 4, 0x10 + 2 * pin);
    platform_write(board->ioapic + 0x10, 4, RING3_VECTOR);
    lapic_write(LAPIC_SPURIOUS, LAPIC_ON);
}

static bool find_on(const struct board *board, struct virtio *ret)
{
    for (unsigned i = 0; i < board->count; i++) {
        struct virtio found = { .base = board->base + i * board->stride, .id = ret->id };

        if (virtio_get(&found, VIRTIO_MMIO_MAGIC_VALUE) == 0x74726976 &&
            virtio_get(&found, VIRTIO_MMIO_DEVICE_ID) == found.id) {
            route(board, ioapic_pin(board, i));
            *ret = found;
            return true;
        }
    }
    return false;
}

struct virtio board_find(uint32_t id)
{
    struct virtio found = { .id = id };

    expect(find_on(&boards[0], &found) || find_on(&boards[1], &found));
    return found;
}
