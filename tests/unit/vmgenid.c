/* SPDX-License-Identifier: MIT */
#include "devices/chips/vmgenid.h"

#include "tests/unit/firmware.h"
#include "tests/unit/saved.h"
#include "tests/unit/unit.h"

#define AT 0x1000

static struct guest_memory *mem;
static struct chip *genid;
static unsigned edges;
static bool high;

static void record_irq(void *chip, uint32_t pin, bool level)
{
    ck_assert_uint_eq(pin, 23);
    edges += level && !high;
    high = level;
}

static struct chip *create(void)
{
    const struct irq_line irq = { record_irq, NULL, 23 };

    return vmgenid_create("vmgenid", mem, AT, &irq);
}

static void destroy(struct chip *chip)
{
    chip->device.ops->destroy(&chip->device);
}

static void set_up(void)
{
    edges = 0;
    high = false;
    mem = made_memory(MIB);
    genid = create();
    vmgenid_write(genid);
}

static void tear_down(void)
{
    destroy(genid);
    guest_memory_destroy(mem);
}

struct id {
    uint8_t bytes[VMGENID_SIZE];
};

static struct id shown(void)
{
    struct id id;

    ck_assert_int_eq(guest_read(mem, AT, &id, sizeof(id)), 0);
    return id;
}

static bool equal(struct id a, struct id b)
{
    return memcmp(&a, &b, sizeof(a)) == 0;
}

START_TEST(each_machine_has_its_own)
{
    const uint8_t *before = guest_ptr(mem, AT - 1, 1), *after = guest_ptr(mem, AT + 16, 1);
    struct chip *other = create();
    struct id first = shown(), none = { { 0 } };

    ck_assert(!equal(first, none));
    ck_assert_uint_eq(*before | *after, 0);
    vmgenid_write(other);
    ck_assert(!equal(first, shown()));
    ck_assert_uint_eq(edges, 0); /* nobody could handle it yet */
    destroy(other);
}
END_TEST

START_TEST(a_reset_keeps_it)
{
    struct id first = shown();

    genid->device.ops->reset(&genid->device);
    guest_memory_clear(mem);
    vmgenid_write(genid);
    ck_assert(equal(first, shown()));
    ck_assert_uint_eq(edges, 0);
}
END_TEST

START_TEST(a_saved_machine_keeps_it)
{
    struct id first = shown();
    struct state saved;

    saved_take(&saved, &genid->device);
    genid->device.ops->resume(&genid->device);
    ck_assert(equal(first, shown()));
    ck_assert_uint_eq(edges, 0);
    state_finish(&saved);
}
END_TEST

/* RAM and the interrupt controller may be loaded until the machine is resumed. */
START_TEST(a_restored_machine_has_another_and_is_told)
{
    struct id first = shown(), second;
    struct state saved;
    struct chip *restored;

    saved_take(&saved, &genid->device);
    for (unsigned i = 1; i <= 2; i++) {
        restored = create();
        saved_restore(&saved, &restored->device);
        ck_assert_uint_eq(edges, i - 1);
        restored->device.ops->resume(&restored->device);
        second = shown();
        ck_assert(!equal(first, second));
        ck_assert_uint_eq(edges, i);
        ck_assert(!high);

        restored->device.ops->resume(&restored->device); /* of a pause */
        guest_memory_clear(mem);
        vmgenid_write(restored); /* as a reset does */
        ck_assert(equal(second, shown()));
        ck_assert_uint_eq(edges, i);
        saved_take(&saved, &restored->device);
        destroy(restored);
        first = second;
    }
    state_finish(&saved);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("vmgenid");
    TCase *tests = tcase_create("vmgenid");

    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_add_test(tests, each_machine_has_its_own);
    tcase_add_test(tests, a_reset_keeps_it);
    tcase_add_test(tests, a_saved_machine_keeps_it);
    tcase_add_test(tests, a_restored_machine_has_another_and_is_told);
    suite_add_tcase(suite, tests);
    return unit_run(suite);
}
