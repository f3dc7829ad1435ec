/* SPDX-License-Identifier: MIT */
#include "devices/chips/vmgenid.h"

#include <sys/random.h>

#include "vmm/core/base.h"
#include "vmm/core/state.h"

struct vmgenid {
    struct chip chip;
    struct guest_memory *mem;
    gpa_t at;
    struct irq_line irq;
    uint8_t id[VMGENID_SIZE];
    bool loaded; /* a state was loaded, and not yet resumed */
};

static void vmgenid_renew(struct vmgenid *genid)
{
    if (getrandom(genid->id, sizeof(genid->id), 0) != sizeof(genid->id))
        genid->id[0]++; /* cannot fail, but must change */
}

/*
 * While no vCPU has touched the page: KVM cleans the caches when it maps it, so that Linux on
 * aarch64, which reads it uncached, sees these bytes.
 */
void vmgenid_write(struct chip *chip)
{
    struct vmgenid *genid = container_of(chip, struct vmgenid, chip);

    (void)guest_write(genid->mem, genid->at, genid->id, sizeof(genid->id));
}

/* The identity is not part of the state: a machine that loads gets one of its own. */
static void vmgenid_state(struct chip *chip, struct state *s)
{
    struct vmgenid *genid = container_of(chip, struct vmgenid, chip);

    genid->loaded |= s->loading;
}

/* RAM and the interrupt controller have been loaded, too: what is written here stays. */
static void vmgenid_resume(struct chip *chip)
{
    struct vmgenid *genid = container_of(chip, struct vmgenid, chip);

    if (!genid->loaded)
        return;
    genid->loaded = false;
    vmgenid_renew(genid);
    vmgenid_write(chip);
    irq_set(&genid->irq, true);
    irq_set(&genid->irq, false);
}

static const struct chip_ops vmgenid_ops = {
    .resume = vmgenid_resume,
};

struct chip *vmgenid_create(const char *name, struct guest_memory *mem, gpa_t at,
                            const struct irq_line *irq)
{
    struct vmgenid *genid =
        chip_create(sizeof(*genid), &vmgenid_ops, vmgenid_state, name, at, VMGENID_SIZE);

    if (!genid)
        return NULL;
    genid->mem = mem;
    genid->at = at;
    genid->irq = *irq;
    vmgenid_renew(genid);
    return &genid->chip;
}
