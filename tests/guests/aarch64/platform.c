/* SPDX-License-Identifier: MIT */
#include "lib/platform.h"

#include <linux/input-event-codes.h>

#include "aarch64/arm.h"
#include "arch/aarch64/layout.h"
#include "firmware/hardware.h"
#include "lib/virtio.h"

#define UART_DATA    0x00
#define UART_FLAGS   0x18
#define UART_LINE    0x2c
#define UART_CONTROL 0x30

#define UART_RX_EMPTY  0x10u
#define UART_LINE_FIFO 0x10u
#define UART_ENABLE    0xb01u /* on, both directions, request to send */

#define PSCI_SYSTEM_OFF   0x84000008
#define PSCI_SYSTEM_RESET 0x84000009
#define PSCI_CPU_ON       0xc4000003

#define SECONDARY_STACK 4096

/* Devicetree Specification, 5.4: tokens of the structure block. */
enum { FDT_BEGIN_NODE = 1, FDT_END_NODE, FDT_PROPERTY, FDT_NOP };

struct fdt {
    uint32_t magic, size, structure, strings;
};

/* Shared with start.S. */
int main(void);
void start_secondary(void);
void platform_main(void);
void platform_secondary(void);
void platform_fault(void);
void platform_interrupt(void);
const struct fdt *platform_fdt;

bool (*arm_on_fault)(uint64_t syndrome);
void (*arm_on_interrupt)(void);

static void (*secondary_main)(void);
static bool secondary_runs;

void platform_main(void)
{
    platform_exit((unsigned)main());
}

void platform_fault(void)
{
    uint64_t syndrome = system_read("esr_el1");

    if (arm_on_fault && arm_on_fault(syndrome)) {
        system_write("elr_el1", system_read("elr_el1") + 4);
        return;
    }
    print("fault %lx at %lx: %lx\n", syndrome, system_read("elr_el1"), system_read("far_el1"));
    platform_exit(EXIT_UNEXPECTED);
}

void platform_interrupt(void)
{
    expect(arm_on_interrupt);
    arm_on_interrupt();
}

static uint32_t big_endian(uint32_t value)
{
    return __builtin_bswap32(value);
}

static bool begins_with(const char *text, const char *with)
{
    while (*with && *text == *with)
        text++, with++;
    return !*with;
}

static size_t length(const char *text)
{
    size_t len = 0;

    while (text[len])
        len++;
    return len;
}

/* A property of the n-th node whose name begins with `node`; NULL past the last one. */
static const void *fdt_find(const char *node, unsigned n, const char *property)
{
    const char *base = (const char *)platform_fdt;
    const char *strings = base + big_endian(platform_fdt->strings);
    const uint32_t *word = (const uint32_t *)(base + big_endian(platform_fdt->structure));
    bool inside = false;

    for (;;) {
        switch (big_endian(*word++)) {
        case FDT_BEGIN_NODE:
            inside = begins_with((const char *)word, node) && n-- == 0;
            word += length((const char *)word) / 4 + 1;
            break;
        case FDT_PROPERTY:
            if (inside && begins_with(strings + big_endian(word[1]), property))
                return word + 2;
            word += 2 + (big_endian(word[0]) + 3) / 4;
            break;
        case FDT_END_NODE:
        case FDT_NOP:
            break;
        default:
            return NULL;
        }
    }
}

bool platform_ram(unsigned index, struct range *ret)
{
    const uint32_t *reg = fdt_find("memory@", index, "reg");

    if (reg)
        *ret = (struct range){ (uint64_t)big_endian(reg[0]) << 32 | big_endian(reg[1]),
                               (uint64_t)big_endian(reg[2]) << 32 | big_endian(reg[3]) };
    return reg;
}

uint64_t platform_free_ram(void)
{
    return RAM_BASE + 8 * MIB;
}

const char *platform_cmdline(void)
{
    return fdt_find("chosen", 0, "bootargs");
}

uintptr_t platform_virtio(unsigned index)
{
    return index <= HARDWARE_MAX_VIRTIO ? VIRTIO_MMIO_BASE + (uintptr_t)index * VIRTIO_MMIO_STRIDE
                                        : 0;
}

uint64_t platform_hole(void)
{
    return VIRTIO_MMIO_BASE + 0x10000000;
}

uint64_t platform_read(uintptr_t addr, unsigned size)
{
    uint64_t value = 0;

    if (size == 1)
        __asm__ volatile("ldrb %w0, [%1]" : "=r"(value) : "r"(addr) : "memory");
    else if (size == 2)
        __asm__ volatile("ldrh %w0, [%1]" : "=r"(value) : "r"(addr) : "memory");
    else if (size == 4)
        __asm__ volatile("ldr %w0, [%1]" : "=r"(value) : "r"(addr) : "memory");
    else
        __asm__ volatile("ldr %0, [%1]" : "=r"(value) : "r"(addr) : "memory");
    return value;
}

void platform_write(uintptr_t addr, unsigned size, uint64_t value)
{
    if (size == 1)
        __asm__ volatile("strb %w0, [%1]" ::"r"(value), "r"(addr) : "memory");
    else if (size == 2)
        __asm__ volatile("strh %w0, [%1]" ::"r"(value), "r"(addr) : "memory");
    else if (size == 4)
        __asm__ volatile("str %w0, [%1]" ::"r"(value), "r"(addr) : "memory");
    else
        __asm__ volatile("str %0, [%1]" ::"r"(value), "r"(addr) : "memory");
}

void platform_put(char c)
{
    platform_write(PL011_BASE + UART_DATA, 4, (uint8_t)c);
}

/* The host sends nothing before the guest asserts RTS. */
bool platform_get(char *ret)
{
    static bool ready;

    if (!ready) {
        platform_write(PL011_BASE + UART_LINE, 4, UART_LINE_FIFO);
        platform_write(PL011_BASE + UART_CONTROL, 4, UART_ENABLE);
    }
    ready = true;
    if (platform_read(PL011_BASE + UART_FLAGS, 4) & UART_RX_EMPTY)
        return false;
    *ret = (char)platform_read(PL011_BASE + UART_DATA, 4);
    return true;
}

uint64_t platform_ms(void)
{
    return system_read("cntvct_el0") / (system_read("cntfrq_el0") / 1000);
}

void platform_relax(void)
{
    __asm__ volatile("yield" ::: "memory");
}

void platform_stop(void)
{
    for (;;)
        __asm__ volatile("msr daifset, #15; wfi");
}

static int64_t psci(uint64_t function, uint64_t arg1, uint64_t arg2, uint64_t arg3)
{
    register uint64_t x0 __asm__("x0") = function;
    register uint64_t x1 __asm__("x1") = arg1;
    register uint64_t x2 __asm__("x2") = arg2;
    register uint64_t x3 __asm__("x3") = arg3;

    __asm__ volatile("hvc #0" : "+r"(x0), "+r"(x1), "+r"(x2), "+r"(x3)::"memory");
    return (int64_t)x0;
}

void platform_exit(unsigned code)
{
    platform_write(DEBUG_EXIT_BASE, 1, code);
    platform_stop();
}

void platform_power_off(void)
{
    psci(PSCI_SYSTEM_OFF, 0, 0, 0);
    platform_stop();
}

void platform_reset(void)
{
    psci(PSCI_SYSTEM_RESET, 0, 0, 0);
    platform_stop();
}

void platform_panic(void)
{
    platform_write(PVPANIC_BASE, 1, 1);
    platform_stop();
}

void gic_set(unsigned reg, unsigned bits_each, unsigned number, uint32_t value)
{
    unsigned a_word = 32 / bits_each;
    uintptr_t at = GIC_DIST_BASE + reg + number / a_word * 4;
    uint32_t field = (uint32_t)platform_read(at, 4);

    platform_write(at, 4, field | value << number % a_word * bits_each);
}

/* In the second of two nodes; the first one reserves the page. */
const volatile uint64_t *platform_generation(void)
{
    const uint32_t *reg = fdt_find("vmgenid@", 1, "reg");

    expect(reg);
    return (const volatile uint64_t *)((uint64_t)big_endian(reg[0]) << 32 | big_endian(reg[1]));
}

/* It stays pending in the distributor, where it is not enabled. */
void platform_watch_generation(void)
{
    gic_set(GICD_ICFGR, 2, FIRST_SPI + VMGENID_SPI, GICD_ICFGR_EDGE);
}

bool platform_new_generation(void)
{
    unsigned number = FIRST_SPI + VMGENID_SPI;

    return platform_read(GIC_DIST_BASE + GICD_ISPENDR + number / 32 * 4, 4) >> number % 32 & 1;
}

struct input_event {
    uint16_t type, code;
    uint32_t value;
};

/* The power button is the only key of a virtio keyboard. */
bool platform_power_button(void)
{
    static struct virtio keyboard;
    static struct queue queues[2];
    static volatile struct input_event event;
    const struct request request = { .in = &event, .in_size = sizeof(event) };

    if (!keyboard.base) {
        keyboard = virtio_find(VIRTIO_ID_INPUT, 0);
        virtio_start(&keyboard, 1ull << VIRTIO_F_VERSION_1, queues, ARRAY_SIZE(queues));
        queue_submit(&queues[0], &request);
        virtio_notify(&keyboard, 0);
    }
    if (queues[0].used.idx == queues[0].seen)
        return false;
    expect_equal(queue_wait(&queues[0], 0), sizeof(event));
    return event.type == EV_KEY && event.code == KEY_POWER && event.value == 1;
}

void platform_describe_cpu(void)
{
    uint64_t affinity = system_read("mpidr_el1") & 0xff00ffffff;
    unsigned index = (unsigned)(affinity >> 8) * 16 + (affinity & 0xff), cpus = 0;
    const uint32_t *reg = fdt_find("cpu@", index, "reg");

    expect(reg);
    expect_equal(big_endian(*reg), affinity);
    while (fdt_find("cpu@", cpus, "reg"))
        cpus++;
    print("cpu %u of %u\n", index, cpus);
}

void platform_secondary(void)
{
    __atomic_store_n(&secondary_runs, true, __ATOMIC_SEQ_CST);
    secondary_main();
    platform_stop();
}

bool platform_start_cpu(unsigned index, void (*entry)(void))
{
    static char stacks[8][SECONDARY_STACK] __attribute__((aligned(16)));

    expect(index >= 1 && index <= ARRAY_SIZE(stacks));
    secondary_main = entry;
    secondary_runs = false;
    if (psci(PSCI_CPU_ON, index, (uintptr_t)start_secondary, (uintptr_t)stacks[index]) != 0)
        return false;
    for (uint64_t end = platform_ms() + WAIT_MS; platform_ms() < end; platform_relax())
        if (__atomic_load_n(&secondary_runs, __ATOMIC_SEQ_CST))
            return true;
    return false;
}
