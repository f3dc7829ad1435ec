/* SPDX-License-Identifier: MIT */
#include "firmware/tables/acpi.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "firmware/buffer.h"
#include "firmware/hardware.h"
#include "firmware/image.h"
#include "firmware/tables/acpi_registers.h"
#include "firmware/tables/aml.h"
#include "vmm/core/base.h"
#include "vmm/core/endian.h"
#include "vmm/core/log.h"

#define ACPI_OEM      "MINIVM"   /* six characters */
#define ACPI_TABLE_ID "MINIVMM " /* eight characters */
#define ACPI_CREATOR  "MVMM"

#define RSDP_SIZE       36
#define RSDP_VERSION_1  20 /* bytes covered by the first checksum */
#define HEADER_LENGTH   4  /* offsets in a table header */
#define HEADER_CHECKSUM 9
#define HEADER_SIZE     36
#define TABLE_ALIGN     16

/* FADT (ACPI 6.3, 5.2.9): its size and field offsets. */
enum {
    FADT_SIZE = 276,
    FADT_PM_TIMER = 76,
    FADT_PM_TIMER_SIZE = 91,
    FADT_CENTURY = 108,
    FADT_BOOT_ARCH = 109,
    FADT_FLAGS = 112,
    FADT_RESET_REGISTER = 116,
    FADT_RESET_VALUE = 128,
    FADT_MINOR_VERSION = 131,
    FADT_X_DSDT = 140,
    FADT_SLEEP_CONTROL = 244,
    FADT_SLEEP_STATUS = 256,
    FADT_HYPERVISOR = 268,
};

#define BOOT_ARCH_NO_VGA (1u << 2)
#define BOOT_ARCH_NO_RTC (1u << 5)
#define CMOS_CENTURY     0x32

#define FADT_WBINVD       (1u << 0)
#define FADT_POWER_BUTTON (1u << 4) /* no fixed button: it is in the DSDT */
#define FADT_SLEEP_BUTTON (1u << 5) /* none */
#define FADT_NO_FIXED_RTC (1u << 6) /* the clock's alarm is no fixed event; it has none */
#define FADT_PM_TIMER_32  (1u << 8) /* bits */
#define FADT_RESET_WORKS  (1u << 10)
#define FADT_HW_REDUCED   (1u << 20)

/* MADT, ACPI 6.3, 5.2.12 */
enum {
    MADT_LOCAL_APIC = 0,
    MADT_IO_APIC = 1,
    MADT_LOCAL_APIC_NMI = 4,
    MADT_LOCAL_X2APIC = 9,
    MADT_LOCAL_X2APIC_NMI = 10,
};

#define MADT_ENABLED 1
#define XAPIC_IDS    255 /* ids from here on need an x2APIC; 255 is broadcast */
#define NMI_PIN      1

/* The tables as they are written, and the guest addresses of those finished. */
struct acpi {
    struct buffer b;
    const struct hardware *hw;
    gpa_t dsdt, tables[2]; /* the XSDT lists `tables` */
    unsigned count;
};

static uint8_t acpi_checksum(const uint8_t *data, size_t len)
{
    uint8_t sum = 0;

    for (size_t i = 0; i < len; i++)
        sum = (uint8_t)(sum + data[i]);
    return (uint8_t)-sum;
}

static size_t acpi_begin(struct acpi *a, const char *signature, unsigned revision)
{
    struct buffer *b = &a->b;
    size_t start;

    buffer_align(b, TABLE_ALIGN);
    start = b->used;
    buffer_put_text(b, signature);
    buffer_put(b, 0, 4); /* length */
    buffer_put(b, revision, 1);
    buffer_put(b, 0, 1); /* checksum */
    buffer_put_text(b, ACPI_OEM);
    buffer_put_text(b, ACPI_TABLE_ID);
    buffer_put(b, 1, 4); /* OEM revision */
    buffer_put_text(b, ACPI_CREATOR);
    buffer_put(b, 1, 4); /* creator revision */
    return start;
}

/* Completes the header and returns the table's guest address. */
static gpa_t acpi_end(struct acpi *a, size_t start)
{
    struct buffer *b = &a->b;
    size_t len = b->used - start;

    buffer_patch(b, start + HEADER_LENGTH, len, 4);
    buffer_patch(b, start + HEADER_CHECKSUM, acpi_checksum(b->data + start, len), 1);
    return a->hw->acpi.base + start;
}

static void acpi_add_serial(struct buffer *b, const struct hardware_device *serial)
{
    size_t device = aml_device(b, "COM1");
    size_t resources;

    aml_name_eisa_id(b, "_HID", "PNP0501");
    aml_name_integer(b, "_UID", 0);
    resources = aml_resources(b);
    aml_ports(b, (uint16_t)serial->base, (uint8_t)serial->size);
    aml_interrupt(b, serial->gsi);
    aml_end_resources(b, resources);
    aml_end(b, device);
}

static void acpi_add_rtc(struct buffer *b, const struct hardware_device *rtc)
{
    size_t device = aml_device(b, "RTC_");
    size_t resources;

    aml_name_eisa_id(b, "_HID", "PNP0B00");
    resources = aml_resources(b);
    aml_ports(b, (uint16_t)rtc->base, (uint8_t)rtc->size);
    aml_end_resources(b, resources);
    aml_end(b, device);
}

static void acpi_add_virtio(struct buffer *b, const struct hardware_device *virtio, unsigned index)
{
    char name[5];
    size_t device, resources;

    snprintf(name, sizeof(name), "VR%02X", index & 0xff);
    device = aml_device(b, name);
    aml_name_string(b, "_HID", "LNRO0005");
    aml_name_integer(b, "_UID", index);
    aml_name_integer(b, "_CCA", 1); /* DMA is coherent */
    resources = aml_resources(b);
    aml_memory(b, (uint32_t)virtio->base, (uint32_t)virtio->size);
    aml_interrupt(b, virtio->gsi);
    aml_end_resources(b, resources);
    aml_end(b, device);
}

static void acpi_add_pvpanic(struct buffer *b, const struct hardware_device *pvpanic)
{
    size_t device = aml_device(b, "PEVT");
    size_t resources;

    aml_name_string(b, "_HID", "QEMU0001"); /* pvpanic's id, in every VMM */
    resources = aml_resources(b);
    aml_ports(b, (uint16_t)pvpanic->base, (uint8_t)pvpanic->size);
    aml_end_resources(b, resources);
    aml_end(b, device);
}

static void acpi_add_power_button(struct buffer *b)
{
    size_t device = aml_device(b, "PWRB");

    aml_name_eisa_id(b, "_HID", "PNP0C0C");
    aml_name_integer(b, "_UID", 0);
    aml_end(b, device);
}

/*
 * As Microsoft's "Virtual Machine Generation ID" has it, which leaves the _HID open: Linux before
 * 6.10 looks at nothing else, for this one.
 */
static void acpi_add_vmgenid(struct buffer *b, const struct hardware_device *vmgenid)
{
    const uint32_t address[] = { (uint32_t)vmgenid->base, (uint32_t)(vmgenid->base >> 32) };
    size_t device = aml_device(b, "VGEN");

    aml_name_string(b, "_HID", "VMGENCTR");
    aml_name_string(b, "_CID", "VM_Gen_Counter");
    aml_name_string(b, "_DDN", "VM_Gen_Counter");
    aml_name_integers(b, "ADDR", address, ARRAY_SIZE(address));
    aml_end(b, device);
}

/* The generic event device (ACPI 6.3, 5.6.9) reports a press of the button, a new generation. */
static void acpi_add_events(struct buffer *b, const struct hardware_device *power,
                            const struct hardware_device *vmgenid)
{
    size_t device = aml_device(b, "GED_");
    size_t resources, method, condition;

    aml_name_string(b, "_HID", "ACPI0013");
    aml_name_integer(b, "_UID", 0);
    resources = aml_resources(b);
    aml_interrupt(b, power->gsi);
    if (vmgenid->size > 0)
        aml_interrupt(b, vmgenid->gsi);
    aml_end_resources(b, resources);
    aml_io_register(b, "EREG", power->base + ACPI_POWER_EVENTS, "ESEL");
    method = aml_method(b, "_EVT", 1); /* its argument is the interrupt */
    condition = aml_if(b, "ESEL");
    aml_notify(b, "PWRB", 0x80);
    aml_end(b, condition);
    if (vmgenid->size > 0) {
        condition = aml_if_argument(b, vmgenid->gsi);
        aml_notify(b, "VGEN", 0x80);
        aml_end(b, condition);
    }
    aml_end(b, method);
    aml_end(b, device);
}

static void acpi_add_dsdt(struct acpi *a)
{
    static const uint32_t s5[] = { ACPI_POWER_S5, 0, 0, 0 };
    const struct hardware *hw = a->hw;
    size_t start = acpi_begin(a, "DSDT", 2);
    size_t scope;

    aml_name_integers(&a->b, "_S5_", s5, ARRAY_SIZE(s5));
    scope = aml_scope(&a->b, "\\_SB_");
    if (hw->serial.size > 0)
        acpi_add_serial(&a->b, &hw->serial);
    if (hw->rtc.size > 0)
        acpi_add_rtc(&a->b, &hw->rtc);
    if (hw->vmgenid.size > 0)
        acpi_add_vmgenid(&a->b, &hw->vmgenid);
    if (hw->power.size > 0) {
        acpi_add_power_button(&a->b);
        acpi_add_events(&a->b, &hw->power, &hw->vmgenid);
    }
    if (hw->pvpanic.size > 0)
        acpi_add_pvpanic(&a->b, &hw->pvpanic);
    for (unsigned i = 0; i < hw->virtio_count; i++)
        if (hw->virtio[i].size > 0)
            acpi_add_virtio(&a->b, &hw->virtio[i], i);
    aml_end(&a->b, scope);
    a->dsdt = acpi_end(a, start);
}

/* A generic address structure for one 8-bit port. */
static void acpi_patch_port(struct buffer *b, size_t at, uint64_t port)
{
    buffer_patch(b, at, 1, 1);     /* I/O space */
    buffer_patch(b, at + 1, 8, 1); /* bits, from bit 0 on */
    buffer_patch(b, at + 3, 1, 1); /* accessed as a byte */
    buffer_patch(b, at + 4, port, 8);
}

/*
 * The PM timer is fixed hardware, which an operating system may ignore on a hardware-reduced
 * machine. It is given in the 32-bit field only: that is enough for those that need it, such as
 * memory testers. Linux looks at the 64-bit field here, and tests a timer there for 5 ms.
 */
static void acpi_patch_pm_timer(struct buffer *b, size_t start, uint64_t port)
{
    buffer_patch(b, start + FADT_PM_TIMER, port, 4);
    buffer_patch(b, start + FADT_PM_TIMER_SIZE, 4, 1);
}

static void acpi_add_fadt(struct acpi *a)
{
    uint64_t power = a->hw->power.base;
    struct buffer *b = &a->b;
    size_t start = acpi_begin(a, "FACP", 6);

    buffer_put_zeros(b, FADT_SIZE - HEADER_SIZE);
    buffer_patch(b, start + FADT_MINOR_VERSION, 3, 1);
    buffer_patch(b, start + FADT_X_DSDT, a->dsdt, 8);
    buffer_patch(b, start + FADT_BOOT_ARCH,
                 BOOT_ARCH_NO_VGA | (a->hw->rtc.size > 0 ? 0 : BOOT_ARCH_NO_RTC), 2);
    buffer_patch(b, start + FADT_CENTURY, a->hw->rtc.size > 0 ? CMOS_CENTURY : 0, 1);
    buffer_patch(b, start + FADT_FLAGS,
                 FADT_WBINVD | FADT_POWER_BUTTON | FADT_SLEEP_BUTTON | FADT_NO_FIXED_RTC |
                     FADT_PM_TIMER_32 | FADT_RESET_WORKS | FADT_HW_REDUCED,
                 4);
    if (a->hw->pm_timer.size > 0)
        acpi_patch_pm_timer(b, start, a->hw->pm_timer.base);
    acpi_patch_port(b, start + FADT_RESET_REGISTER, power + ACPI_POWER_RESET);
    buffer_patch(b, start + FADT_RESET_VALUE, ACPI_POWER_RESET_VALUE, 1);
    acpi_patch_port(b, start + FADT_SLEEP_CONTROL, power + ACPI_POWER_SLEEP_CONTROL);
    acpi_patch_port(b, start + FADT_SLEEP_STATUS, power + ACPI_POWER_SLEEP_STATUS);
    for (unsigned i = 0; i < 8; i++)
        buffer_patch(b, start + FADT_HYPERVISOR + i, (uint8_t) "MINIVMM"[i], 1);
    a->tables[a->count++] = acpi_end(a, start);
}

static void acpi_add_cpu(struct buffer *b, unsigned id)
{
    if (id < XAPIC_IDS) {
        buffer_put(b, MADT_LOCAL_APIC, 1);
        buffer_put(b, 8, 1); /* bytes */
        buffer_put(b, id, 1);
        buffer_put(b, id, 1);
        buffer_put(b, MADT_ENABLED, 4);
    } else {
        buffer_put(b, MADT_LOCAL_X2APIC, 1);
        buffer_put(b, 16, 1);
        buffer_put(b, 0, 2);
        buffer_put(b, id, 4);
        buffer_put(b, MADT_ENABLED, 4);
        buffer_put(b, id, 4);
    }
}

static void acpi_add_nmi(struct buffer *b, unsigned cpus)
{
    buffer_put(b, MADT_LOCAL_APIC_NMI, 1);
    buffer_put(b, 6, 1);
    buffer_put(b, 0xff, 1); /* every CPU */
    buffer_put(b, 0, 2);    /* polarity and trigger of an NMI */
    buffer_put(b, NMI_PIN, 1);
    if (cpus <= XAPIC_IDS)
        return;
    buffer_put(b, MADT_LOCAL_X2APIC_NMI, 1);
    buffer_put(b, 12, 1);
    buffer_put(b, 0, 2);
    buffer_put(b, UINT32_MAX, 4);
    buffer_put(b, NMI_PIN, 1);
    buffer_put(b, 0, 3);
}

static void acpi_add_madt(struct acpi *a)
{
    struct buffer *b = &a->b;
    size_t start = acpi_begin(a, "APIC", 5);

    buffer_put(b, a->hw->lapic, 4);
    buffer_put(b, 0, 4); /* flags: no 8259s */
    for (unsigned i = 0; i < a->hw->cpus; i++)
        acpi_add_cpu(b, i);

    buffer_put(b, MADT_IO_APIC, 1);
    buffer_put(b, 12, 1);
    buffer_put(b, 0, 2); /* id, reserved */
    buffer_put(b, a->hw->ioapic, 4);
    buffer_put(b, 0, 4); /* first GSI */
    acpi_add_nmi(b, a->hw->cpus);
    a->tables[a->count++] = acpi_end(a, start);
}

static gpa_t acpi_add_xsdt(struct acpi *a)
{
    size_t start = acpi_begin(a, "XSDT", 1);

    for (unsigned i = 0; i < a->count; i++)
        buffer_put(&a->b, a->tables[i], 8);
    return acpi_end(a, start);
}

static void acpi_write_rsdp(uint8_t *dst, gpa_t xsdt)
{
    struct buffer b = { .data = dst, .size = RSDP_SIZE };

    buffer_put_text(&b, "RSD PTR ");
    buffer_put(&b, 0, 1); /* checksum */
    buffer_put_text(&b, ACPI_OEM);
    buffer_put(&b, 2, 1); /* revision */
    buffer_put(&b, 0, 4); /* no RSDT */
    buffer_put(&b, RSDP_SIZE, 4);
    buffer_put(&b, xsdt, 8);
    buffer_put(&b, 0, 4); /* extended checksum, reserved */
    buffer_patch(&b, 8, acpi_checksum(dst, RSDP_VERSION_1), 1);
    buffer_patch(&b, 32, acpi_checksum(dst, RSDP_SIZE), 1);
}

int acpi_build(struct guest_memory *mem, const struct hardware *hw)
{
    struct acpi a = { .b = { .data = guest_ptr(mem, hw->acpi.base, hw->acpi.size),
                             .size = hw->acpi.size },
                      .hw = hw };
    uint8_t *rsdp = a.b.data;
    gpa_t xsdt;

    if (!a.b.data)
        return log_refuse(EFAULT, "no memory for ACPI tables at %#llx; raise --memory",
                          (unsigned long long)hw->acpi.base);

    buffer_put_zeros(&a.b, RSDP_SIZE);
    acpi_add_dsdt(&a);
    acpi_add_fadt(&a);
    acpi_add_madt(&a);
    xsdt = acpi_add_xsdt(&a);
    if (a.b.full)
        return log_refuse(ENOSPC, "no room for ACPI tables: too many CPUs or devices");
    acpi_write_rsdp(rsdp, xsdt);
    return 0;
}

/* The tables follow the RSDP, aligned by acpi_begin(); zeros follow the last one. */
int acpi_dump(const struct guest_memory *mem, const struct hardware *hw, const char *directory)
{
    const uint8_t *tables = guest_ptr(mem, hw->acpi.base, hw->acpi.size);
    size_t at = align_up(RSDP_SIZE, TABLE_ALIGN);
    int error = 0;

    while (!error && at < hw->acpi.size - HEADER_SIZE && tables[at]) {
        size_t size = le32_load((const le32 *)(tables + at + HEADER_LENGTH));
        char path[PATH_MAX];

        snprintf(path, sizeof(path), "%s/%.4s.aml", directory, (const char *)tables + at);
        error = image_save(path, tables + at, size);
        at = align_up(at + size, TABLE_ALIGN);
    }
    return error;
}
