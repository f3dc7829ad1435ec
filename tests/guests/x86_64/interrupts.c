/* SPDX-License-Identifier: MIT */

/*
 * Edge interrupts of a virtio device and the serial port, through the I/O APIC. With the second
 * word "again" it then resets the machine, endlessly.
 */
#include "arch/x86_64/layout.h"
#include "lib/sanity.h"
#include "x86_64/x86.h"

#define VECTOR_VIRTIO 0x40
#define VECTOR_SERIAL 0x41
#define CODE64        0x10

#define UART_IER      1
#define UART_IIR      2
#define UART_IER_THRI 0x02
#define UART_IIR_THRI 0x02

struct gate {
    uint16_t offset_low, selector, flags, offset_middle;
    uint32_t offset_high, reserved;
};

struct interrupt_frame;

static struct gate gates[VECTOR_SERIAL + 1] __attribute__((aligned(16)));
static volatile unsigned virtio_count, serial_count;
static struct virtio v;
static struct queue queues[MAX_QUEUES];

__attribute__((interrupt)) static void on_virtio(struct interrupt_frame *frame)
{
    uint32_t status = virtio_get(&v, VIRTIO_MMIO_INTERRUPT_STATUS);

    virtio_set(&v, VIRTIO_MMIO_INTERRUPT_ACK, status);
    virtio_count += status & VIRTIO_MMIO_INT_VRING;
    lapic_write(LAPIC_EOI, 0);
}

__attribute__((interrupt)) static void on_serial(struct interrupt_frame *frame)
{
    serial_count += (port_read(COM1_PORT + UART_IIR, 1) & 7) == UART_IIR_THRI;
    lapic_write(LAPIC_EOI, 0);
}

static void set_gate(unsigned vector, void (*handler)(struct interrupt_frame *))
{
    uintptr_t at = (uintptr_t)handler;

    gates[vector] = (struct gate){ (uint16_t)at,
                                   CODE64,
                                   0x8e00, /* present, interrupt gate */
                                   (uint16_t)(at >> 16),
                                   (uint32_t)(at >> 32),
                                   0 };
}

static void load_gates(void)
{
    struct {
        uint16_t pad[3], limit;
        uint64_t base;
    } table = { .limit = sizeof(gates) - 1, .base = (uintptr_t)gates };

    __asm__ volatile("lidt %0" ::"m"(table.limit), "m"(table.base));
}

/* Each request raises an interrupt. */
static void check_virtio(const struct sanity *device)
{
    virtio_start(&v, 1ull << VIRTIO_F_VERSION_1, queues, device->queues);
    for (unsigned i = 1; i <= 3; i++) {
        sanity_check(device, &v, &queues[device->queue]);
        wait_for(virtio_count == i);
    }
}

/* The transmitter is always empty: it interrupts when enabled, and after each byte. */
static void check_serial(void)
{
    port_write(COM1_PORT + UART_IER, 1, UART_IER_THRI);
    wait_for(serial_count == 1);
    platform_put('!');
    wait_for(serial_count == 2);
    port_write(COM1_PORT + UART_IER, 1, 0);
    platform_put('\n');
}

int main(void)
{
    const struct sanity *device = sanity_device();

    v = virtio_find(device->id, 0);
    set_gate(VECTOR_VIRTIO, on_virtio);
    set_gate(VECTOR_SERIAL, on_serial);
    load_gates();
    lapic_write(LAPIC_SPURIOUS, LAPIC_ON);
    ioapic_route(virtio_gsi((unsigned)((v.base - VIRTIO_MMIO_BASE) / VIRTIO_MMIO_STRIDE)),
                 VECTOR_VIRTIO);
    ioapic_route(COM1_GSI, VECTOR_SERIAL);
    __asm__ volatile("sti" ::: "memory");
    check_virtio(device);
    check_serial();
    expect_equal(virtio_count, 3);
    expect_equal(serial_count, 2);
    if (word_is(1, "again"))
        platform_reset();
    return 0;
}
