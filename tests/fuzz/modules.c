/* SPDX-License-Identifier: MIT */

/* The input is modules.dep, .builtin and .devname up to the first NUL, then a module's file. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "firmware/buffer.h"
#include "tests/unit/tree.h"
#include "vmm/core/base.h"
#include "vmm/run/modules.h"

static char tree[64];

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void remove_tree(void)
{
    tree_remove(tree);
}

static void read_all(const struct modules *modules)
{
    for (unsigned i = 0; i < modules_count(modules); i++) {
        struct buffer bytes = { .limit = MIB };

        assert(*modules_name(modules, i) && !strchr(modules_name(modules, i), '/'));
        modules_read(modules, i, &bytes);
        buffer_finish(&bytes);
    }
}

static void read_nodes(const struct modules *modules)
{
    char node[MODULES_NODE_SIZE];

    for (size_t at = 0; modules_next_node(modules, &at, node);) {
        const char *name = strchr(strchr(strchr(node, ':') + 1, ':') + 1, ':') + 1;

        assert((*node == 'c' || *node == 'b') && *name != '/' && !strstr(name, ".."));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *end = memchr(data, 0, size);
    size_t list = end ? (size_t)(end - data) : size;
    size_t rest = end ? size - list - 1 : 0;
    struct modules *modules;

    if (!*tree) {
        tree_make(tree);
        atexit(remove_tree);
    }
    tree_put(tree, "modules.dep", data, list);
    tree_put(tree, "modules.builtin", data, list);
    tree_put(tree, "modules.devname", data, list);
    tree_put(tree, "a.ko", data + size - rest, rest);
    if (modules_open(&modules, tree, "6.1"))
        return 0;
    modules_add(modules, "a", true);
    modules_add(modules, "virtio_mmio", true);
    modules_add(modules, "no-such-module", false);
    read_all(modules);
    read_nodes(modules);
    modules_close(modules);
    return 0;
}
