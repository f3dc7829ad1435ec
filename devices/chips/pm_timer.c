/* SPDX-License-Identifier: MIT */
#include "devices/chips/pm_timer.h"

#include "vmm/core/base.h"
#include "vmm/core/clock.h"
#include "vmm/core/state.h"

#define NS_PER_S 1000000000u

/* No lock: the fields change only while no vCPU runs. */
struct pm_timer {
    struct chip chip;
    uint32_t ahead; /* of the host's clock, in ticks */
    uint32_t count; /* the loaded count, until the timer resumes */
    bool loaded;
};

static uint32_t pm_timer_host_ticks(void)
{
    uint64_t ns = clock_now_ns();

    return (uint32_t)(ns / NS_PER_S * PM_TIMER_HZ + ns % NS_PER_S * PM_TIMER_HZ / NS_PER_S);
}

static uint32_t pm_timer_read(struct chip *chip, unsigned reg)
{
    const struct pm_timer *timer = container_of(chip, struct pm_timer, chip);

    return pm_timer_host_ticks() + timer->ahead;
}

static void pm_timer_write(struct chip *chip, unsigned reg, uint32_t value)
{
}

/* A loaded count goes on from where it was saved, as the vCPUs' TSC does. */
static void pm_timer_resume(struct chip *chip)
{
    struct pm_timer *timer = container_of(chip, struct pm_timer, chip);

    if (timer->loaded)
        timer->ahead = timer->count - pm_timer_host_ticks();
    timer->loaded = false;
}

static void pm_timer_state(struct chip *chip, struct state *s)
{
    struct pm_timer *timer = container_of(chip, struct pm_timer, chip);

    if (!timer->loaded)
        timer->count = pm_timer_read(chip, 0);
    state_field(s, timer, count);
    timer->loaded |= s->loading && !s->error;
}

static const struct chip_ops pm_timer_ops = {
    .read32 = pm_timer_read,
    .write32 = pm_timer_write,
    .resume = pm_timer_resume,
};

struct chip *pm_timer_create(const char *name, uint64_t base)
{
    struct pm_timer *timer =
        chip_create(sizeof(*timer), &pm_timer_ops, pm_timer_state, name, base, PM_TIMER_SIZE);

    return timer ? &timer->chip : NULL;
}
