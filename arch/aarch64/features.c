/* SPDX-License-Identifier: MIT */
#include "arch/aarch64/features.h"

#include <stdbool.h>
#include <stdio.h>

#include "vmm/core/base.h"

/* Arm ARM, D19.2: S3_0_C0_C<CRm>_<op2>. */
#define ID_REGISTER(crm, op2) (uint16_t)(3u << 14 | (crm) << 3 | (op2))

#define PFR0  ID_REGISTER(4, 0)
#define PFR1  ID_REGISTER(4, 1)
#define ZFR0  ID_REGISTER(4, 4)
#define ISAR0 ID_REGISTER(6, 0)
#define ISAR1 ID_REGISTER(6, 1)

/* A field of 4 bits: a greater value has all that a smaller one has. */
static const struct id_field {
    uint16_t id;
    uint8_t low; /* its lowest bit */
    bool absent; /* 15 means that there is none */
    const char *name;
} id_fields[] = {
    { PFR0, 16, true, "fp" },         { PFR0, 20, true, "asimd" },
    { PFR0, 32, false, "sve" },       { PFR0, 48, false, "dit" },
    { PFR1, 0, false, "bti" },        { PFR1, 4, false, "ssbs" },
    { PFR1, 8, false, "mte" },        { PFR1, 24, false, "sme" },
    { ZFR0, 0, false, "sve2" },       { ISAR0, 4, false, "aes" },
    { ISAR0, 8, false, "sha1" },      { ISAR0, 12, false, "sha2" },
    { ISAR0, 16, false, "crc32" },    { ISAR0, 20, false, "atomics" },
    { ISAR0, 28, false, "asimdrdm" }, { ISAR0, 32, false, "sha3" },
    { ISAR0, 36, false, "sm3" },      { ISAR0, 40, false, "sm4" },
    { ISAR0, 44, false, "asimddp" },  { ISAR0, 48, false, "asimdfhm" },
    { ISAR0, 52, false, "flagm" },    { ISAR0, 60, false, "rng" },
    { ISAR1, 0, false, "dcpop" },     { ISAR1, 4, false, "paca" },
    { ISAR1, 8, false, "paca" },      { ISAR1, 12, false, "jscvt" },
    { ISAR1, 16, false, "fcma" },     { ISAR1, 20, false, "lrcpc" },
    { ISAR1, 24, false, "pacg" },     { ISAR1, 28, false, "pacg" },
    { ISAR1, 32, false, "frint" },    { ISAR1, 36, false, "sb" },
    { ISAR1, 44, false, "bf16" },     { ISAR1, 48, false, "dgh" },
    { ISAR1, 52, false, "i8mm" },
};

static unsigned id_level(const struct id_field *field, uint64_t value)
{
    unsigned level = value >> field->low & 15;

    return field->absent ? (level + 1) & 15 : level;
}

void features_missing(uint16_t id, uint64_t was, uint64_t is, char *text, size_t size)
{
    size_t used = 0;

    *text = '\0';
    for (unsigned i = 0; i < ARRAY_SIZE(id_fields); i++) {
        const struct id_field *field = &id_fields[i];

        if (field->id == id && id_level(field, was) > id_level(field, is) && used < size)
            used +=
                (size_t)snprintf(text + used, size - used, "%s%s", used ? ", " : "", field->name);
    }
}
