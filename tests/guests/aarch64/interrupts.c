/* SPDX-License-Identifier: MIT */

/*
 * A virtio device's edge interrupt and the serial port's level interrupt, through the GIC. With the
 * second word "again" it then resets the machine, endlessly.
 */
#include "aarch64/arm.h"
#include "arch/aarch64/layout.h"
#include "lib/sanity.h"

#define GICD_CTLR_GROUP1_AFFINITY 0x12u

#define ICC_PMR     "s3_0_c4_c6_0"
#define ICC_IAR1    "s3_0_c12_c12_0"
#define ICC_EOIR1   "s3_0_c12_c12_1"
#define ICC_IGRPEN1 "s3_0_c12_c12_7"

#define UART_MASK     0x38
#define UART_CLEAR    0x44
#define UART_TRANSMIT 0x20u

static volatile unsigned virtio_count, serial_count;
static struct virtio v;
static struct queue queues[MAX_QUEUES];

static unsigned virtio_interrupt(void)
{
    return FIRST_SPI + VIRTIO_SPI_FIRST +
           (unsigned)((v.base - VIRTIO_MMIO_BASE) / VIRTIO_MMIO_STRIDE);
}

static void on_interrupt(void)
{
    unsigned number = (unsigned)system_read(ICC_IAR1);

    if (number == FIRST_SPI + PL011_SPI) {
        serial_count++;
        platform_write(PL011_BASE + UART_CLEAR, 4, UART_TRANSMIT);
    } else {
        uint32_t status = virtio_get(&v, VIRTIO_MMIO_INTERRUPT_STATUS);

        expect_equal(number, virtio_interrupt());
        virtio_set(&v, VIRTIO_MMIO_INTERRUPT_ACK, status);
        virtio_count += status & VIRTIO_MMIO_INT_VRING;
    }
    system_write(ICC_EOIR1, number);
}

static void gic_enable(unsigned number, bool edge)
{
    gic_set(GICD_IGROUPR, 1, number, 1);
    gic_set(GICD_ICFGR, 2, number, edge ? GICD_ICFGR_EDGE : 0);
    gic_set(GICD_ISENABLER, 1, number, 1);
}

static void gic_init(void)
{
    platform_write(GIC_DIST_BASE + GICD_CTLR, 4, GICD_CTLR_GROUP1_AFFINITY);
    gic_enable(virtio_interrupt(), true);
    gic_enable(FIRST_SPI + PL011_SPI, false);
    system_write(ICC_PMR, 0xff);
    system_write(ICC_IGRPEN1, 1);
}

static void check_virtio(const struct sanity *device)
{
    virtio_start(&v, 1ull << VIRTIO_F_VERSION_1, queues, device->queues);
    for (unsigned i = 1; i <= 3; i++) {
        sanity_check(device, &v, &queues[device->queue]);
        wait_for(virtio_count == i);
    }
}

/* A byte sent raises the interrupt, once that is enabled. */
static void check_serial(void)
{
    platform_put('!');
    platform_write(PL011_BASE + UART_MASK, 4, UART_TRANSMIT);
    wait_for(serial_count == 1);
    platform_put('\n');
    wait_for(serial_count == 2);
}

int main(void)
{
    const struct sanity *device = sanity_device();

    v = virtio_find(device->id, 0);
    arm_on_interrupt = on_interrupt;
    gic_init();
    __asm__ volatile("msr daifclr, #2" ::: "memory");
    check_virtio(device);
    check_serial();
    expect_equal(virtio_count, 3);
    expect_equal(serial_count, 2);
    if (word_is(1, "again"))
        platform_reset();
    return 0;
}
