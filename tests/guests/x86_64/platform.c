/* SPDX-License-Identifier: MIT */
#include "lib/platform.h"

#include "arch/x86_64/layout.h"
#include "firmware/tables/acpi_registers.h"
#include "lib/guest.h"
#include "x86_64/x86.h"

#define LEAF_FREQUENCIES 0x40000010u

#define MODEM_CONTROL         4
#define MODEM_CONTROL_DTR_RTS 3u

#define LINE_STATUS      5
#define LINE_STATUS_DATA 1u

#define SLP_EN 0x20u

#define I8042_PULSE_RESET 0xfe
#define E820_RAM          1

#define VECTOR_GENERATION 0x50

#define TRAMPOLINE      0x8000
#define ICR_INIT        0x4500 /* edge, assert */
#define ICR_STARTUP     0x4600
#define ICR_PENDING     0x1000
#define SECONDARY_STACK 4096

/* Xen's hvm_start_info, which PVH passes to a kernel. */
struct start_info {
    uint32_t magic, version, flags, modules;
    uint64_t module_list, cmdline, rsdp, memory_map;
    uint32_t memory_ranges, reserved;
};

struct start_info_range {
    uint64_t base, size;
    uint32_t type, reserved;
};

/* Shared with start.S. */
int main(void);
void platform_main(void);
void platform_secondary(void);
extern const char trampoline[], trampoline_end[];
uint32_t platform_start_info;
uint32_t platform_secondary_stack;

static void (*secondary_main)(void);
static bool secondary_runs;

static const struct start_info *start_info(void)
{
    return (const struct start_info *)(uintptr_t)platform_start_info;
}

void platform_main(void)
{
    platform_exit((unsigned)main());
}

bool platform_ram(unsigned index, struct range *ret)
{
    const struct start_info_range *map = (const void *)start_info()->memory_map;

    for (unsigned i = 0; i < start_info()->memory_ranges; i++) {
        if (map[i].type == E820_RAM && index-- == 0) {
            *ret = (struct range){ map[i].base, map[i].size };
            return true;
        }
    }
    return false;
}

uint64_t platform_free_ram(void)
{
    return 8 * MIB;
}

const char *platform_cmdline(void)
{
    return (const char *)start_info()->cmdline;
}

uintptr_t platform_virtio(unsigned index)
{
    return index < VIRTIO_GSIS ? VIRTIO_MMIO_BASE + (uintptr_t)index * VIRTIO_MMIO_STRIDE : 0;
}

uint64_t platform_hole(void)
{
    return VIRTIO_MMIO_BASE + 0x10000000;
}

uint64_t platform_read(uintptr_t addr, unsigned size)
{
    uint64_t value = 0;

    if (size == 1)
        __asm__ volatile("movb (%1), %b0" : "+r"(value) : "r"(addr) : "memory");
    else if (size == 2)
        __asm__ volatile("movw (%1), %w0" : "+r"(value) : "r"(addr) : "memory");
    else if (size == 4)
        __asm__ volatile("movl (%1), %k0" : "+r"(value) : "r"(addr) : "memory");
    else
        __asm__ volatile("movq (%1), %0" : "+r"(value) : "r"(addr) : "memory");
    return value;
}

void platform_write(uintptr_t addr, unsigned size, uint64_t value)
{
    if (size == 1)
        __asm__ volatile("movb %b0, (%1)" ::"r"(value), "r"(addr) : "memory");
    else if (size == 2)
        __asm__ volatile("movw %w0, (%1)" ::"r"(value), "r"(addr) : "memory");
    else if (size == 4)
        __asm__ volatile("movl %k0, (%1)" ::"r"(value), "r"(addr) : "memory");
    else
        __asm__ volatile("movq %0, (%1)" ::"r"(value), "r"(addr) : "memory");
}

void platform_put(char c)
{
    port_write(COM1_PORT, 1, (uint8_t)c);
}

/* The host sends nothing before the guest asserts RTS. */
bool platform_get(char *ret)
{
    static bool ready;

    if (!ready)
        port_write(COM1_PORT + MODEM_CONTROL, 1, MODEM_CONTROL_DTR_RTS);
    ready = true;
    if (!(port_read(COM1_PORT + LINE_STATUS, 1) & LINE_STATUS_DATA))
        return false;
    *ret = (char)port_read(COM1_PORT, 1);
    return true;
}

uint64_t platform_ms(void)
{
    static uint32_t tsc_khz;

    if (!tsc_khz)
        tsc_khz = cpuid(LEAF_FREQUENCIES, 0).eax;
    return tsc_read() / tsc_khz;
}

void platform_relax(void)
{
    __asm__ volatile("pause" ::: "memory");
}

void platform_stop(void)
{
    for (;;)
        __asm__ volatile("cli; hlt");
}

void platform_exit(unsigned code)
{
    port_write(DEBUG_EXIT_PORT, 1, code);
    platform_stop();
}

void platform_power_off(void)
{
    port_write(POWER_PORT + ACPI_POWER_SLEEP_CONTROL, 1, ACPI_POWER_S5 << 2 | SLP_EN);
    platform_stop();
}

void platform_reset(void)
{
    port_write(POWER_PORT + ACPI_POWER_RESET, 1, ACPI_POWER_RESET_VALUE);
    platform_stop();
}

void platform_panic(void)
{
    port_write(PVPANIC_PORT, 1, 1);
    platform_stop();
}

bool platform_power_button(void)
{
    return port_read(POWER_PORT + ACPI_POWER_EVENTS, 1) & ACPI_POWER_BUTTON;
}

uint32_t lapic_read(unsigned reg)
{
    return (uint32_t)platform_read(LAPIC_BASE + reg, 4);
}

void lapic_write(unsigned reg, uint32_t value)
{
    platform_write(LAPIC_BASE + reg, 4, value);
}

void ioapic_route(unsigned gsi, unsigned vector)
{
    platform_write(IOAPIC_BASE, 4, 0x11 + 2 * gsi);
    platform_write(IOAPIC_BASE + 0x10, 4, 0);
    platform_write(IOAPIC_BASE, 4, 0x10 + 2 * gsi);
    platform_write(IOAPIC_BASE + 0x10, 4, vector);
}

const volatile uint64_t *platform_generation(void)
{
    return (const volatile uint64_t *)VMGENID_BASE;
}

/* The CPU takes no interrupts: it stays in the local APIC's request register. */
void platform_watch_generation(void)
{
    lapic_write(LAPIC_SPURIOUS, LAPIC_ON);
    ioapic_route(VMGENID_GSI, VECTOR_GENERATION);
}

bool platform_new_generation(void)
{
    uint32_t requests = lapic_read(LAPIC_IRR + VECTOR_GENERATION / 32 * 16);

    return requests >> VECTOR_GENERATION % 32 & 1;
}

/* Checks the APIC id everywhere; SDM 3A, 9.9: one socket, one core per CPU, no SMT. */
void platform_describe_cpu(void)
{
    uint32_t id = lapic_read(LAPIC_ID) >> 24;
    uint32_t cpus = cpuid(1, 0).ebx >> 16 & 0xff;

    expect_equal(cpuid(1, 0).ebx >> 24, id);
    if (cpuid(0, 0).eax >= 0xb && cpuid(0xb, 0).ebx) {
        struct cpuid threads = cpuid(0xb, 0), cores = cpuid(0xb, 1);

        expect_equal(threads.edx, id);
        expect_equal(threads.ebx, 1);
        expect_equal(threads.eax, 0);
        expect_equal(threads.ecx, 0x100);
        expect_equal(cores.edx, id);
        expect_equal(cores.ebx, cpus);
        expect_equal(cores.ecx, 0x201);
        expect(cpus <= 1u << cores.eax);
        expect_equal(cpuid(0xb, 2).ecx & 0xff00, 0);
    }
    print("cpu %u of %u\n", id, cpus);
}

static void lapic_send(unsigned apic_id, uint32_t command)
{
    lapic_write(LAPIC_ICR_HIGH, apic_id << 24);
    lapic_write(LAPIC_ICR_LOW, command);
    wait_for(!(lapic_read(LAPIC_ICR_LOW) & ICR_PENDING));
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
    uint64_t end;

    expect(index >= 1 && index <= ARRAY_SIZE(stacks));
    memcpy((void *)TRAMPOLINE, trampoline, (size_t)(trampoline_end - trampoline));
    platform_secondary_stack = (uint32_t)(uintptr_t)stacks[index - 1] + SECONDARY_STACK;
    secondary_main = entry;
    secondary_runs = false;
    lapic_send(index, ICR_INIT);
    lapic_send(index, ICR_STARTUP | TRAMPOLINE >> 12);
    for (end = platform_ms() + WAIT_MS; platform_ms() < end; platform_relax())
        if (__atomic_load_n(&secondary_runs, __ATOMIC_SEQ_CST))
            return true;
    return false;
}
