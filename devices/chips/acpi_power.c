/* SPDX-License-Identifier: MIT */
#include "devices/chips/acpi_power.h"

#include "firmware/tables/acpi_registers.h"
#include "vmm/core/base.h"
#include "vmm/core/state.h"

/* ACPI 6, 4.8.3.7: the sleep control register. */
#define SLP_EN         (1 << 5)
#define SLP_TYP(value) ((value) >> 2 & 7)

struct acpi_power {
    struct chip chip;
    struct irq_line irq;
    struct event_sink sink;
    uint8_t events; /* ACPI_POWER_BUTTON; atomic */
};

static uint8_t acpi_power_read(struct chip *chip, unsigned reg)
{
    struct acpi_power *power = container_of(chip, struct acpi_power, chip);

    if (reg == ACPI_POWER_EVENTS)
        return __atomic_exchange_n(&power->events, 0, __ATOMIC_SEQ_CST);
    return 0;
}

static void acpi_power_write(struct chip *chip, unsigned reg, uint8_t value)
{
    const struct acpi_power *power = container_of(chip, struct acpi_power, chip);

    if (reg == ACPI_POWER_SLEEP_CONTROL && value & SLP_EN && SLP_TYP(value) == ACPI_POWER_S5)
        event_report(&power->sink, GUEST_POWER_OFF, 0);
    else if (reg == ACPI_POWER_RESET && value == ACPI_POWER_RESET_VALUE)
        event_report(&power->sink, GUEST_RESET, 0);
}

static void acpi_power_reset(struct chip *chip)
{
    struct acpi_power *power = container_of(chip, struct acpi_power, chip);

    __atomic_store_n(&power->events, 0, __ATOMIC_SEQ_CST);
}

static void acpi_power_pulse(const struct acpi_power *power)
{
    irq_set(&power->irq, true);
    irq_set(&power->irq, false);
}

/* Atomic, because the button may be pressed at any time. */
static void acpi_power_state(struct chip *chip, struct state *s)
{
    struct acpi_power *power = container_of(chip, struct acpi_power, chip);
    uint8_t events = __atomic_load_n(&power->events, __ATOMIC_SEQ_CST);

    state_u8(s, "events", &events);
    if (events & ~ACPI_POWER_BUTTON)
        state_fail(s, "events: %#x has unknown bits", events);
    if (s->loading && !s->error)
        __atomic_store_n(&power->events, events, __ATOMIC_SEQ_CST);
}

/* Raises the interrupt again, in case it was lost. A spurious one is harmless. */
static void acpi_power_resume(struct chip *chip)
{
    struct acpi_power *power = container_of(chip, struct acpi_power, chip);

    if (__atomic_load_n(&power->events, __ATOMIC_SEQ_CST))
        acpi_power_pulse(power);
}

static const struct chip_ops acpi_power_ops = {
    .read = acpi_power_read,
    .write = acpi_power_write,
    .reset = acpi_power_reset,
    .resume = acpi_power_resume,
};

struct chip *acpi_power_create(const char *name, uint64_t base, const struct irq_line *irq,
                               const struct event_sink *sink)
{
    struct acpi_power *power =
        chip_create(sizeof(*power), &acpi_power_ops, acpi_power_state, name, base, ACPI_POWER_SIZE);

    if (!power)
        return NULL;
    power->irq = *irq;
    power->sink = *sink;
    return &power->chip;
}

void acpi_power_press_button(struct chip *chip)
{
    struct acpi_power *power = container_of(chip, struct acpi_power, chip);

    __atomic_store_n(&power->events, ACPI_POWER_BUTTON, __ATOMIC_SEQ_CST);
    acpi_power_pulse(power);
}
