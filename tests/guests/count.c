/* SPDX-License-Identifier: MIT */

/*
 * Draws a random number at each boot, and prints it with a count, line after line: a machine that
 * goes on from a snapshot has the same number and counts on. It obeys bytes of the serial port: f
 * fills memory with what the next f checks, d draws another number, r resets the machine, o powers
 * it off, e ends it.
 */
#include "lib/virtio.h"

#define FILLED_AT (16u << 20) /* from the start of RAM */
#define FILLED    (4u << 20)  /* bytes */
#define STEP      512u
#define PERIOD_MS 5

static volatile uint64_t number;

static void draw(void)
{
    static struct queue q;
    struct virtio rng = virtio_find(VIRTIO_ID_RNG, 0);

    virtio_start(&rng, ~0ull, &q, 1);
    queue_submit(&q, &(struct request){ .in = (void *)&number, .in_size = sizeof(number) });
    virtio_notify(&rng, 0);
    expect_equal(queue_wait(&q, 0), sizeof(number));
}

/* Expects `before` there; 0: RAM is still as at the boot. */
static void fill_word(volatile uint64_t *word, uint64_t before, uint64_t seed)
{
    expect_equal(*word, before ? before ^ (uintptr_t)word : 0);
    *word = seed ^ (uintptr_t)word;
}

/* Some MiB, and the end of each range of RAM. */
static void fill(void)
{
    static uint64_t before;
    uint64_t seed = number | 1;
    struct range ram;
    uintptr_t from, end;

    platform_ram(0, &ram);
    from = ram.base + FILLED_AT;
    end = from + FILLED;
    for (uintptr_t at = from; at < end; at += STEP)
        fill_word((volatile uint64_t *)at, before, seed);
    for (unsigned i = 0; platform_ram(i, &ram); i++)
        if (ram.base + ram.size > end)
            fill_word((volatile uint64_t *)(ram.base + ram.size - sizeof(uint64_t)), before, seed);
    before = seed;
    print("filled\n");
}

static void obey(char byte)
{
    if (byte == 'f')
        fill();
    if (byte == 'd')
        draw();
    if (byte == 'r')
        platform_reset();
    if (byte == 'o')
        platform_power_off();
    if (byte == 'e')
        platform_exit(0);
}

int main(void)
{
    char byte;

    draw();
    for (unsigned count = 0;; count++) {
        print("%lx %u\n", number, count);
        for (uint64_t end = platform_ms() + PERIOD_MS; platform_ms() < end; platform_relax())
            if (platform_get(&byte))
                obey(byte);
    }
}
