/* SPDX-License-Identifier: MIT */

/*
 * A whole board without KVM: register accesses, turns of the main loop, resets, pauses and moves to
 * a new board in any order. All its devices are on the main loop. Eight bytes of input are one
 * action.
 */
#include "vmm/board/board.h"

#include <string.h>

#include "devices/console/terminal.h"
#include "tests/fuzz/fuzz.h"
#include "tests/unit/notifiers.h"
#include "vmm/board/parts.h"
#include "vmm/config/config.h"
#include "vmm/core/base.h"
#include "vmm/core/clock.h"
#include "vmm/core/device.h"
#include "vmm/core/log.h"
#include "vmm/core/state.h"

#define STEP   8
#define MEMORY (16 * MIB)
#define RINGS \
    (64 * KIB) /* RAM that the input writes, from its start; a multiple of the page size */

enum { READ, WRITE, PORT_READ, PORT_WRITE, RAM, TURN, RESET, PAUSE, RESUME, MOVE, BUTTON, ACTIONS };

struct made {
    struct board board;
    struct guest_memory *mem;
    struct loop *loop;
    bool paused, moved;
};

static struct config config;

static void set_irq(void *chip, uint32_t pin, bool level)
{
}

static void report(void *owner, enum guest_event event, unsigned code)
{
}

static void quit(void *owner)
{
}

static void configure(void)
{
    struct port_config *port;

    demand(config_set_defaults(&config) == 0);
    config.kernel = "none";
    config.nets = NULL; /* a NIC has a thread */
    config.memory = MEMORY;
    config.serial.kind = config.console.kind = CONSOLE_FD;
    config.serial.fd = config.console.fd = -1;
    demand((port = config_add_port(&config)) != NULL);
    port->name = "org.test";
    config_complete(&config);
}

static void make(struct made *m)
{
    const struct terminal_config terminal = { .quit = quit };
    struct board_host host = { .events = { .report = report },
                               .irq = { .set = set_irq },
                               .notifiers = no_notifiers,
                               .loop = m->loop,
                               .memory = m->mem };

    demand(parts_describe(&m->board, &config) == 0);
    demand(parts_create(&m->board, &host, &terminal) == 0);
    demand(m->board.loop_count == 0); /* no threads */
}

/* Memory and loop last as long as the process. */
static void begin(struct made *m)
{
    const struct hardware *hw = &m->board.hardware;

    if (!m->mem) {
        configure();
        demand((m->mem = guest_memory_create()) && (m->loop = loop_create()));
        demand(parts_describe(&m->board, &config) == 0);
        demand(guest_memory_add(m->mem, hw->ram[0].base, MEMORY, NULL) == 0);
        madvise(guest_memory_region(m->mem, 0)->host, MEMORY, MADV_NOHUGEPAGE);
    }
    guest_memory_clear(m->mem);
    m->paused = m->moved = false;
    make(m);
}

/* A register: of a virtio device for `bus` mmio, of a chip, or of anything. */
static uint64_t address(const struct made *m, const struct bus *bus, const uint8_t *b)
{
    unsigned offset = b[2] | b[3] << 8;
    const struct hardware *hw = &m->board.hardware;

    if (bus->count == 0 || b[1] == 0xff)
        return offset;
    if (bus == &m->board.mmio && b[1] & 0x80 && hw->virtio_count > 0)
        return hw->virtio[b[1] % hw->virtio_count].base + offset % 0x200;
    return bus->regions[b[1] % bus->count]->base + offset % 64;
}

static void move(struct made *m, const uint8_t *b)
{
    struct state saved, s;

    if (m->moved) /* once a run: it takes long */
        return;
    state_begin_save(&saved);
    board_state(&m->board, &saved);
    demand(!saved.error);
    board_destroy(&m->board);
    make(m);
    demand(board_pause(&m->board, UINT64_MAX, &(const char *){ NULL }) == 0);
    saved.bytes[(b[1] | b[2] << 8) % saved.at] ^= b[3];
    state_begin_load(&s, saved.bytes, saved.at);
    board_state(&m->board, &s);
    state_finish(&saved);
    if (state_finish(&s) < 0) { /* such a board is not used */
        board_destroy(&m->board);
        make(m);
        m->paused = false;
    }
    m->moved = true;
}

static void act_at_rest(struct made *m, unsigned action, const uint8_t *b)
{
    const char *busy = NULL;

    if (action == PAUSE && !m->paused) {
        demand(board_pause(&m->board, UINT64_MAX, &busy) == 0);
        m->paused = true;
    } else if (action == RESUME && m->paused) {
        board_resume(&m->board);
        m->paused = false;
    } else if (action == MOVE && m->paused) {
        move(m, b);
    } else if (action == RESET && !m->paused) {
        board_reset(&m->board);
    }
}

/* What vCPUs do, which a pause or reset has parked. */
static void access_bus(struct made *m, unsigned action, const uint8_t *b)
{
    struct bus *bus = action >= PORT_READ ? &m->board.ports : &m->board.mmio;
    uint64_t at = address(m, bus, b);
    unsigned size = 1u << (b[0] >> 4 & 3);
    uint64_t value = b[4] | b[5] << 8 | b[6] << 16 | (uint64_t)b[7] << 24;

    if (bus == &m->board.ports)
        size = size > 4 ? 4 : size;
    if (action == READ || action == PORT_READ)
        bus_read(bus, at, size);
    else
        bus_write(bus, at, size, value);
}

static void act(struct made *m, const uint8_t *b)
{
    uint8_t *ram = guest_memory_region(m->mem, 0)->host;
    unsigned action = (b[0] & 15) % ACTIONS;

    if (action == TURN)
        loop_turn(m->loop, 0);
    else if (action == BUTTON)
        m->board.press_power_button(m->board.power_button);
    else if (action == RAM && !m->paused)
        memcpy(ram + (b[1] | b[2] << 8) % (RINGS - 4), b + 4, 4);
    else if (action <= PORT_WRITE && !m->paused)
        access_bus(m, action, b);
    else if (action >= RESET)
        act_at_rest(m, action, b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct made m;

    log_set_level(LOG_LEVEL_ERROR);
    log_expect_errors(true);
    begin(&m);
    for (; size >= STEP; data += STEP, size -= STEP)
        act(&m, data);
    board_destroy(&m.board);
    return 0;
}
