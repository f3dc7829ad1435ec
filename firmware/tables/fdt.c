/* SPDX-License-Identifier: MIT */
#include "firmware/tables/fdt.h"

#include <errno.h>
#include <inttypes.h>
#include <libfdt.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>

#include "firmware/hardware.h"
#include "firmware/image.h"
#include "vmm/core/base.h"
#include "vmm/core/cleanup.h"
#include "vmm/core/log.h"

enum { PHANDLE_GIC = 1, PHANDLE_CLOCK };

/* An interrupt specifier's cells: kind, number, flags. */
enum { SPI, PPI };
enum { EDGE_RISING = 1, LEVEL_HIGH = 4 };
enum { FIRST_PPI = 16, GICV2_CPUS = 0xff00 }; /* GICv2: a PPI's flags include a CPU mask */

#define CLOCK_HZ          24000000 /* the PrimeCells' nominal clock */
#define VCPUS_PER_CLUSTER 16       /* KVM: affinity level 0 of MPIDR; the rest is level 1 */

/* A tree that is written sequentially. `error` keeps libfdt's first error. */
struct tree {
    void *fdt;
    int error;
    const struct hardware *hw;
};

static void tree_check(struct tree *t, int result)
{
    if (!t->error)
        t->error = result;
}

static void tree_begin(struct tree *t, const char *name)
{
    tree_check(t, fdt_begin_node(t->fdt, name));
}

/* Opens node "name@base" with its reg. */
static void tree_begin_at(struct tree *t, const char *name, uint64_t base, uint64_t size)
{
    const fdt64_t reg[] = { cpu_to_fdt64(base), cpu_to_fdt64(size) };
    char full[32];

    snprintf(full, sizeof(full), "%s@%" PRIx64, name, base);
    tree_begin(t, full);
    tree_check(t, fdt_property(t->fdt, "reg", reg, sizeof(reg)));
}

static void tree_end(struct tree *t)
{
    tree_check(t, fdt_end_node(t->fdt));
}

static void tree_flag(struct tree *t, const char *name)
{
    tree_check(t, fdt_property(t->fdt, name, NULL, 0));
}

static void tree_text(struct tree *t, const char *name, const char *text)
{
    tree_check(t, fdt_property_string(t->fdt, name, text));
}

/* A list of strings, separated by NULs in the array `text`. */
#define tree_texts(t, name, text) tree_check(t, fdt_property((t)->fdt, name, text, sizeof(text)))

static void tree_put_cells(struct tree *t, const char *name, const uint32_t *cells, unsigned count)
{
    fdt32_t *room;

    tree_check(
        t, fdt_property_placeholder(t->fdt, name, (int)(count * sizeof(*room)), (void **)&room));
    for (unsigned i = 0; !t->error && i < count; i++)
        room[i] = cpu_to_fdt32(cells[i]);
}

#define tree_cells(t, name, ...)                               \
    tree_put_cells(t, name, (const uint32_t[]){ __VA_ARGS__ }, \
                   sizeof((const uint32_t[]){ __VA_ARGS__ }) / sizeof(uint32_t))

/* A 64-bit number takes two cells. */
#define HIGH_LOW(value) (uint32_t)((uint64_t)(value) >> 32), (uint32_t)(value)

static void tree_add_cpus(struct tree *t)
{
    tree_begin(t, "cpus");
    tree_cells(t, "#address-cells", 1);
    tree_cells(t, "#size-cells", 0);
    for (unsigned i = 0; i < t->hw->cpus; i++) {
        uint32_t affinity = i / VCPUS_PER_CLUSTER << 8 | i % VCPUS_PER_CLUSTER;
        char name[16];

        snprintf(name, sizeof(name), "cpu@%" PRIx32, affinity);
        tree_begin(t, name);
        tree_text(t, "device_type", "cpu");
        tree_text(t, "compatible", "arm,armv8");
        tree_cells(t, "reg", affinity);
        tree_text(t, "enable-method", "psci");
        tree_end(t);
    }
    tree_end(t);
}

static void tree_add_memory(struct tree *t)
{
    for (unsigned i = 0; i < t->hw->ram_ranges; i++) {
        tree_begin_at(t, "memory", t->hw->ram[i].base, t->hw->ram[i].size);
        tree_text(t, "device_type", "memory");
        tree_end(t);
    }
}

static void tree_add_gic(struct tree *t)
{
    const struct hardware_device *gic = &t->hw->gic, *cpus = &t->hw->gic_cpus;
    char name[40];

    snprintf(name, sizeof(name), "interrupt-controller@%" PRIx64, gic->base);
    tree_begin(t, name);
    tree_text(t, "compatible", t->hw->gic_version == 3 ? "arm,gic-v3" : "arm,cortex-a15-gic");
    tree_cells(t, "reg", HIGH_LOW(gic->base), HIGH_LOW(gic->size), HIGH_LOW(cpus->base),
               HIGH_LOW(cpus->size));
    tree_flag(t, "interrupt-controller");
    tree_cells(t, "#interrupt-cells", 3);
    tree_cells(t, "#address-cells", 0);
    tree_cells(t, "phandle", PHANDLE_GIC);
    tree_end(t);
}

/* Timer (secure, non-secure, virtual and hypervisor interrupt), performance counters, PSCI. */
static void tree_add_cpu_devices(struct tree *t)
{
    uint32_t flags = LEVEL_HIGH | (t->hw->gic_version == 2 ? GICV2_CPUS : 0);

    tree_begin(t, "timer");
    tree_text(t, "compatible", "arm,armv8-timer");
    tree_cells(t, "interrupts", PPI, 13, flags, PPI, 14, flags, PPI, 11, flags, PPI, 10, flags);
    tree_flag(t, "always-on");
    tree_end(t);
    if (t->hw->pmu) {
        tree_begin(t, "pmu");
        tree_text(t, "compatible", "arm,armv8-pmuv3");
        tree_cells(t, "interrupts", PPI, FDT_PMU_INTERRUPT - FIRST_PPI, flags);
        tree_end(t);
    }
    tree_begin(t, "psci");
    tree_texts(t, "compatible", "arm,psci-1.0\0arm,psci-0.2");
    tree_text(t, "method", "hvc");
    tree_end(t);
}

static void tree_add_clock(struct tree *t)
{
    tree_begin(t, "apb-pclk");
    tree_text(t, "compatible", "fixed-clock");
    tree_cells(t, "#clock-cells", 0);
    tree_cells(t, "clock-frequency", CLOCK_HZ);
    tree_cells(t, "phandle", PHANDLE_CLOCK);
    tree_end(t);
}

static void tree_add_chips(struct tree *t)
{
    const struct hardware_device *serial = &t->hw->serial, *rtc = &t->hw->rtc;
    const struct hardware_device *pvpanic = &t->hw->pvpanic;

    tree_begin_at(t, "serial", serial->base, serial->size);
    tree_texts(t, "compatible", "arm,pl011\0arm,primecell");
    tree_cells(t, "interrupts", SPI, serial->gsi, LEVEL_HIGH);
    tree_cells(t, "clocks", PHANDLE_CLOCK, PHANDLE_CLOCK);
    tree_texts(t, "clock-names", "uartclk\0apb_pclk");
    tree_end(t);

    tree_begin_at(t, "rtc", rtc->base, rtc->size);
    tree_texts(t, "compatible", "arm,pl031\0arm,primecell");
    tree_cells(t, "clocks", PHANDLE_CLOCK);
    tree_text(t, "clock-names", "apb_pclk");
    tree_end(t);

    tree_begin_at(t, "pvpanic", pvpanic->base, pvpanic->size);
    tree_text(t, "compatible", "qemu,pvpanic-mmio");
    tree_end(t);
}

static void tree_add_virtio(struct tree *t, const struct hardware_device *virtio)
{
    if (virtio->size == 0)
        return;
    tree_begin_at(t, "virtio_mmio", virtio->base, virtio->size);
    tree_text(t, "compatible", "virtio,mmio");
    tree_cells(t, "interrupts", SPI, virtio->gsi, EDGE_RISING);
    tree_flag(t, "dma-coherent");
    tree_end(t);
}

/*
 * Linux must not map the page as RAM, else it refuses to map it for the driver. Drivers exist since
 * Linux 6.10 (Documentation/devicetree/bindings/rng/microsoft,vmgenid.yaml).
 */
static void tree_add_vmgenid(struct tree *t, const struct hardware_device *vmgenid)
{
    if (vmgenid->size == 0)
        return;
    tree_begin(t, "reserved-memory");
    tree_cells(t, "#address-cells", 2);
    tree_cells(t, "#size-cells", 2);
    tree_flag(t, "ranges");
    tree_begin_at(t, "vmgenid", vmgenid->base, vmgenid->size);
    tree_flag(t, "no-map");
    tree_end(t);
    tree_end(t);

    tree_begin_at(t, "vmgenid", vmgenid->base, vmgenid->size);
    tree_text(t, "compatible", "microsoft,vmgenid");
    tree_cells(t, "interrupts", SPI, vmgenid->gsi, EDGE_RISING);
    tree_end(t);
}

/* Linux probes in this order, so it numbers the disks by it. */
static void tree_add_all(struct tree *t)
{
    tree_begin(t, "");
    tree_text(t, "compatible", "linux,dummy-virt");
    tree_text(t, "model", "minivmm");
    tree_cells(t, "#address-cells", 2);
    tree_cells(t, "#size-cells", 2);
    tree_cells(t, "interrupt-parent", PHANDLE_GIC);
    tree_add_cpus(t);
    tree_add_memory(t);
    tree_add_cpu_devices(t);
    tree_add_gic(t);
    tree_add_clock(t);
    tree_add_chips(t);
    tree_add_vmgenid(t, &t->hw->vmgenid);
    for (unsigned i = 0; i < t->hw->virtio_count; i++)
        tree_add_virtio(t, &t->hw->virtio[i]);
    tree_add_virtio(t, &t->hw->power);
    tree_end(t);
}

static int fdt_set_seed(void *fdt, int node, const char *name, size_t size)
{
    uint8_t seed[64];

    if (getrandom(seed, size, 0) != (ssize_t)size)
        return 0; /* not needed: the guest has other sources of entropy */
    return fdt_setprop(fdt, node, name, seed, (int)size);
}

static int fdt_set_initrd(void *fdt, int node, const struct fdt_chosen *chosen)
{
    int result;

    if (chosen->initrd_size == 0)
        return 0;
    result = fdt_setprop_u64(fdt, node, "linux,initrd-start", chosen->initrd);
    return result ? result
                  : fdt_setprop_u64(fdt, node, "linux,initrd-end",
                                    chosen->initrd + chosen->initrd_size);
}

static int fdt_set_stdout(void *fdt, int node, const struct hardware *hw)
{
    char path[32];

    snprintf(path, sizeof(path), "/serial@%" PRIx64, hw->serial.base);
    return fdt_path_offset(fdt, path) < 0 ? 0 : fdt_setprop_string(fdt, node, "stdout-path", path);
}

static int fdt_fill_chosen(void *fdt, const struct hardware *hw, const struct fdt_chosen *chosen)
{
    int node = fdt_path_offset(fdt, "/chosen");
    int result;

    if (node == -FDT_ERR_NOTFOUND)
        node = fdt_add_subnode(fdt, 0, "chosen");
    if (node < 0)
        return node;
    if ((result = fdt_setprop_string(fdt, node, "bootargs", chosen->cmdline)) ||
        (result = fdt_set_initrd(fdt, node, chosen)) ||
        (result = fdt_set_seed(fdt, node, "kaslr-seed", 8)) ||
        (result = fdt_set_seed(fdt, node, "rng-seed", 64)) ||
        (result = fdt_set_stdout(fdt, node, hw)))
        return result;
    return fdt_pack(fdt);
}

/* Fills in /chosen and writes the tree to guest memory. */
static int fdt_install(struct guest_memory *mem, const struct hardware *hw, void *fdt,
                       const struct fdt_chosen *chosen, const char *name)
{
    int result = fdt_open_into(fdt, fdt, (int)hw->fdt.size);

    if (!result)
        result = fdt_fill_chosen(fdt, hw, chosen);
    if (result)
        return log_refuse(result == -FDT_ERR_NOSPACE ? ENOSPC : EINVAL, "%s: %s", name,
                          fdt_strerror(result));
    if (guest_write(mem, hw->fdt.base, fdt, fdt_totalsize(fdt)) < 0)
        return log_refuse(EFAULT, "no memory for the device tree at %#" PRIx64 "; raise --memory",
                          hw->fdt.base);
    return 0;
}

int fdt_build(struct guest_memory *mem, const struct hardware *hw, const struct fdt_chosen *chosen)
{
    cleanup_free void *fdt = calloc(1, hw->fdt.size);
    struct tree t = { .fdt = fdt, .hw = hw };

    if (!fdt)
        return log_error(ENOMEM, "device tree");
    tree_check(&t, fdt_create(t.fdt, (int)hw->fdt.size));
    tree_check(&t, fdt_finish_reservemap(t.fdt));
    tree_add_all(&t);
    tree_check(&t, fdt_finish(t.fdt));
    if (t.error)
        return log_refuse(ENOSPC, "device tree: %s", fdt_strerror(t.error));
    return fdt_install(mem, hw, fdt, chosen, "device tree");
}

int fdt_load(struct guest_memory *mem, const struct hardware *hw, const struct image *dtb,
             const struct fdt_chosen *chosen)
{
    cleanup_free void *fdt = calloc(1, hw->fdt.size);
    int error;

    if (!fdt)
        return log_error(ENOMEM, "%s", dtb->path);
    if (dtb->size > hw->fdt.size)
        return log_refuse(EINVAL, "%s is too large for a device tree: at most %llu KiB", dtb->path,
                          (unsigned long long)(hw->fdt.size / KIB));
    error = image_read(dtb, 0, fdt, dtb->size);
    if (error)
        return error;
    if (fdt_check_full(fdt, dtb->size))
        return log_refuse(EINVAL, "%s is not a device tree, or damaged; name a .dtb file",
                          dtb->path);
    if (fdt_node_offset_by_prop_value(fdt, -1, "device_type", "memory", sizeof("memory")) < 0)
        return log_refuse(EINVAL, "%s describes no memory; add a memory node", dtb->path);
    return fdt_install(mem, hw, fdt, chosen, dtb->path);
}

int fdt_dump(const struct guest_memory *mem, const struct hardware *hw, const char *path)
{
    const void *fdt = guest_ptr(mem, hw->fdt.base, hw->fdt.size);

    return image_save(path, fdt, fdt_totalsize(fdt));
}
