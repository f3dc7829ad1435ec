/* SPDX-License-Identifier: MIT */

/*
 * Loads a user's device tree. An input with the magic of one is the file. Any other is a program
 * that writes one with libfdt, and may spoil it then: what is not written so hardly ever gets past
 * fdt_check_full().
 */
#include <libfdt.h>

#include "firmware/tables/fdt.h"
#include "tests/fuzz/fuzz.h"
#include "tests/unit/arm.h"
#include "vmm/core/log.h"

#define RAM       (2 * MIB)
#define TREE_SIZE (16 * KIB)

enum { BEGIN, END, TEXT, CELLS, BYTES, RESERVE, SPOIL, OPS };

static const char *take_name(struct input *in, const char *const *names, unsigned count)
{
    return names[take(in, 1) % count];
}

/* A property whose value is a text that somebody looks for, numbers, or anything. */
static void add_property(void *fdt, struct input *in, unsigned op)
{
    static const char *const names[] = {
        "device_type",      "bootargs",   "linux,initrd-start",
        "linux,initrd-end", "kaslr-seed", "rng-seed",
        "stdout-path",      "compatible", "reg",
        "phandle",          "model",      "linux,phandle",
        "#size-cells",      "name",       "",
    };
    static const char *const texts[] = { "memory", "linux,dummy-virt", "", "cpu",
                                         "/serial@9000000" };
    const char *name = take_name(in, names, ARRAY_SIZE(names)), *text;
    static uint8_t bytes[1024];
    unsigned size = 0;

    if (op == TEXT) {
        text = take_name(in, texts, ARRAY_SIZE(texts));
        fdt_property_string(fdt, name, text);
        return;
    }
    size = op == CELLS ? take(in, 1) % 5 * 4 : (take(in, 1) << 2) % sizeof(bytes);
    for (unsigned i = 0; i < size; i++)
        bytes[i] = (uint8_t)take(in, 1);
    fdt_property(fdt, name, bytes, (int)size);
}

static void begin_node(void *fdt, struct input *in)
{
    static const char *const names[] = { "chosen", "memory@40000000", "cpus", "serial@9000000",
                                         "soc",    "chosen@0",        "a",    "reserved-memory" };

    fdt_begin_node(fdt, take_name(in, names, ARRAY_SIZE(names)));
}

/* Writes the tree. Calls that fit badly fail in libfdt. */
static size_t write_tree(void *fdt, struct input *in)
{
    unsigned depth = 1, op, with_memory = take(in, 1) % 4;

    fdt_create(fdt, TREE_SIZE);
    while (in->size > 0 && *in->data % OPS == RESERVE)
        fdt_add_reservemap_entry(fdt, take(in, 1), (uint64_t)take(in, 4) << take(in, 1) % 32);
    fdt_finish_reservemap(fdt);
    fdt_begin_node(fdt, "");
    if (with_memory)
        fdt_property_string(fdt, "device_type",
                            "memory"); /* else refused, unless the input has it */
    while (in->size > 0 && (op = take(in, 1) % OPS) != SPOIL) {
        if (op == BEGIN && depth++)
            begin_node(fdt, in);
        else if (op == END && depth > 1 && depth--)
            fdt_end_node(fdt);
        else if (op >= TEXT && op <= BYTES)
            add_property(fdt, in, op);
    }
    while (depth-- > 0)
        fdt_end_node(fdt);
    return fdt_finish(fdt) ? TREE_SIZE : fdt_totalsize(fdt);
}

static void spoil(uint8_t *file, size_t size, struct input *in)
{
    while (in->size >= 3) {
        unsigned at = take(in, 2);

        file[at % size] ^= (uint8_t)take(in, 1);
    }
}

static void load(struct guest_memory *mem, const uint8_t *file, size_t size)
{
    const struct fdt_chosen chosen = { "console=ttyAMA0", RAM_BASE + MIB, 4096 };
    struct hardware hw = made_arm(RAM, 1, 0);
    struct image image = made_image(file, size);

    hw.fdt.size = 4 * TREE_SIZE;
    if (fdt_load(mem, &hw, &image, &chosen) == 0) {
        const void *fdt = guest_ptr(mem, hw.fdt.base, hw.fdt.size);

        demand(fdt_check_full(fdt, hw.fdt.size) == 0);
        demand(fdt_getprop(fdt, fdt_path_offset(fdt, "/chosen"), "bootargs", NULL));
    }
    image_close(&image);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint8_t file[TREE_SIZE];
    static struct guest_memory *mem;
    struct input in = { data, size };

    log_set_level(LOG_LEVEL_ERROR);
    log_expect_errors(true);
    if (!mem)
        mem = made_ram(RAM_BASE, RAM);
    if (size == 0)
        return 0;
    if (size >= 4 && !memcmp(data, "\xd0\x0d\xfe\xed", 4)) {
        load(mem, data, size);
    } else {
        size = write_tree(file, &in);
        spoil(file, size, &in);
        load(mem, file, size);
    }
    return 0;
}
