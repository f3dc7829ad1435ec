/* SPDX-License-Identifier: MIT */
#include "vmm/machine/machine.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "devices/console/terminal.h"
#include "firmware/boot/uki.h"
#include "firmware/boot/unwrap.h"
#include "vmm/board/consoles.h"
#include "vmm/board/parts.h"
#include "vmm/config/config.h"
#include "vmm/core/cleanup.h"
#include "vmm/core/log.h"
#include "vmm/core/page_map.h"
#include "vmm/kvm/arch.h"
#include "vmm/machine/sandbox.h"
#include "vmm/machine/snapshot.h"
#include "vmm/machine/stats.h"

/* Names the kernel's console and root file system. */
static char *machine_default_cmdline(const struct config *config)
{
    const char *root = config->disks && !config->initrd ? " root=/dev/vda" : "";
    const char *mode = !*root ? "" : config->disks->image.read_only ? " ro" : " rw";
    const char *tty = config->console.kind == CONSOLE_STDIO ? "hvc0" : arch_default_console();
    char *cmdline;

    return asprintf(&cmdline, "console=%s%s%s", tty, root, mode) < 0 ? NULL : cmdline;
}

int machine_describe(struct machine *machine, const struct config *config)
{
    *machine = (struct machine){ .config = config,
                                 .board = { .serial_fd = -1, .console_fd = -1 },
                                 .vm = { .kvm = -1, .fd = -1, .irqchip = -1, .all_parked = -1 },
                                 .kernel = { .fd = -1 },
                                 .unpacked = { .fd = -1 },
                                 .initrd = { .fd = -1 },
                                 .dtb = { .fd = -1 },
                                 .page_map = -1 };
    sem_init(&machine->steps, 0, 0);
    machine->cmdline = config->cmdline ? strdup(config->cmdline) : machine_default_cmdline(config);
    if (!machine->cmdline)
        return log_error(ENOMEM, "command line");
    return parts_describe(&machine->board, config);
}

void machine_restore(struct machine *machine, struct snapshot *snap)
{
    machine->snapshot = snap;
    machine->origin = snap;
}

static int machine_open_files(struct machine *machine)
{
    const struct config *config = machine->config;
    int error = uki_open(&machine->kernel, config->kernel);

    if (!error)
        error = unwrap_image(&machine->kernel, config->memory);
    if (!error && config->unpacked_fd >= 0)
        error = image_open_fd(&machine->unpacked, config->unpacked_fd, config->kernel);
    if (!error && config->initrd)
        error = image_open_fd(&machine->initrd, config->initrd_fd, config->initrd);
    if (!error && config->dtb)
        error = image_open(&machine->dtb, config->dtb);
    if (!error && config->dump_acpi && mkdir(config->dump_acpi, 0777) < 0 && errno != EEXIST)
        error = log_error(errno, "create %s", config->dump_acpi);
    return error;
}

static struct boot_files machine_boot_files(const struct machine *machine)
{
    const struct config *config = machine->config;

    return (struct boot_files){
        .kernel = &machine->kernel,
        .unpacked = config->unpacked_fd >= 0 ? &machine->unpacked : NULL,
        .initrd = config->initrd ? &machine->initrd : NULL,
        .dtb = config->dtb ? &machine->dtb : NULL,
        .cmdline = machine->cmdline,
        .dump = config->dump_acpi ? config->dump_acpi : config->dump_dtb,
    };
}

/* A machine that is restored needs its images for a reset only. */
static int machine_open_images(struct machine *machine)
{
    if (!machine->snapshot)
        return machine_open_files(machine);
    machine->no_images = !machine->config->reboot || machine_open_files(machine) < 0;
    if (machine->no_images && machine->config->reboot)
        log_warn("continuing without the kernel: a reset will end the machine");
    return 0;
}

static int machine_add_memory(struct machine *machine)
{
    const struct hardware *hw = &machine->board.hardware;
    struct memory_backing backing = { .kind = MEMORY_ANONYMOUS };
    int error = 0;

    machine->memory = guest_memory_create();
    if (!machine->memory)
        return log_error(ENOMEM, "guest memory");
    if (machine->snapshot) {
        error = snapshot_check_memory(machine->snapshot, machine->config->memory);
        if (error)
            return error;
        snapshot_watch_memory();
        backing.kind = MEMORY_PRIVATE_FILE;
        backing.fd = snapshot_memory(machine->snapshot);
    }
    for (unsigned i = 0; i < hw->ram_ranges && !error; i++) {
        error = guest_memory_add(machine->memory, hw->ram[i].base, hw->ram[i].size, &backing);
        backing.offset += hw->ram[i].size;
    }
    if (error)
        log_error(-error, "--memory: the host cannot provide %" PRIu64 " MiB; ask for less",
                  machine->config->memory >> 20);
    return error;
}

int machine_try_boot(struct machine *machine)
{
    const struct boot_files files = machine_boot_files(machine);
    int error;

    if ((error = machine_open_files(machine)) || (error = machine_add_memory(machine)))
        return error;
    return arch_try_boot(machine->memory, &machine->board.hardware, &files);
}

/* What a saved state is from, or is compared with. */
static void machine_note_host(struct machine *machine)
{
    cleanup_close int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);

    if (read(fd, machine->vm.host_boot, VM_BOOT_SIZE - 1) != VM_BOOT_SIZE - 1)
        memset(machine->vm.host_boot, 0, VM_BOOT_SIZE);
}

static int machine_create_board(struct machine *machine, const struct machine_host *host)
{
    const struct board_host board = { .loop = host->loop,
                                      .memory = machine->memory,
                                      .events = host->events,
                                      .irq = vm_irq_line(&machine->vm, 0),
                                      .notifiers = vm_notifiers(&machine->vm) };
    const struct terminal_config terminal = { .quit = host->quit,
                                              .owner = host->owner,
                                              .interrupts = host->interrupts };
    int error = parts_create(&machine->board, &board, &terminal);

    machine->vm.shadow = machine->board.shadow;
    return error;
}

int machine_create(struct machine *machine, const struct machine_host *host)
{
    struct board *board = &machine->board;
    int error;

    timeline_mark(&machine->timeline, PHASE_BEGIN);
    if (machine->config->saves && (machine->page_map = page_map_open()) < 0)
        return log_error(-machine->page_map, "open the page map");
    if ((error = parts_start(board)) || (error = machine_open_images(machine)) ||
        (error = machine_add_memory(machine)))
        return error;
    timeline_mark(&machine->timeline, PHASE_MEMORY);
    if ((error =
             vm_init(&machine->vm, &board->mmio, &board->ports, &host->events, &machine->timeline)))
        return error;
    machine->vm.nested = machine->config->nested;
    machine->vm.pmu = machine->config->pmu;
    if (machine->config->saves || machine->snapshot)
        machine_note_host(machine);
    timeline_mark(&machine->timeline, PHASE_KVM);
    if ((error = machine_create_board(machine, host)))
        return error;
    timeline_mark(&machine->timeline, PHASE_DEVICES);
    if (host->opened)
        host->opened(host->owner);
    return sandbox_enter(&machine->sandbox, board);
}

/* Prints nothing if the vCPUs were never created. */
static void machine_print_stats(struct machine *machine)
{
    if (!machine->config->stats || !machine->vm.stats)
        return;
    consoles_close(&machine->board);
    stats_print(machine);
}

void machine_destroy(struct machine *machine)
{
    vm_destroy(&machine->vm);
    board_join(&machine->board);
    machine_print_stats(machine);
    board_destroy(&machine->board);
    vm_finish(&machine->vm);
    image_close(&machine->kernel);
    image_close(&machine->unpacked);
    image_close(&machine->initrd);
    image_close(&machine->dtb);
    guest_memory_destroy(machine->memory);
    if (machine->page_map >= 0)
        close(machine->page_map);
    free(machine->cmdline);
}

void machine_press_power_button(struct machine *machine)
{
    machine->board.press_power_button(machine->board.power_button);
}

void machine_start_devices(struct machine *machine)
{
    struct board *board = &machine->board;

    machine->devices_failed = !machine->snapshot && arch_ask_host(&machine->vm) < 0;
    sem_post(&machine->steps);
    machine->devices_failed |=
        sandbox_restrict_calls(&machine->sandbox, board) < 0 || board_start(board) < 0;
    machine->vm.confine_vcpus = machine->sandbox.calls;
    sem_post(&machine->steps);
}

/* The steps of machine_start_devices(), counted from 1. The first time only. */
static int machine_await(struct machine *machine, unsigned step)
{
    while (machine->steps_awaited < step)
        machine->steps_awaited += sem_wait(&machine->steps) == 0;
    return machine->devices_failed ? -ECANCELED : 0;
}

static int machine_boot(struct machine *machine)
{
    const struct boot_files files = machine_boot_files(machine);

    if (machine->no_images)
        return log_refuse(ENOENT,
                          "the machine cannot be reset: it was restored without its kernel");
    board_boot(&machine->board);
    return arch_boot(&machine->vm, machine->memory, &machine->board.hardware, &files);
}

/* Instead of a boot, once. */
static int machine_load(struct machine *machine)
{
    int error = snapshot_load(machine->snapshot, machine);

    if (error)
        return error;
    machine->snapshot = NULL;
    machine->vm.restoring = false;
    board_resume(&machine->board);
    return 0;
}

int machine_start(struct machine *machine)
{
    int error;

    machine->vm.restoring = machine->snapshot;
    if ((error = vm_create(&machine->vm, machine->memory, machine->board.hardware.cpus)) ||
        (error = machine_await(machine, 1)) ||
        (error = machine->snapshot ? 0 : arch_ask_host(&machine->vm)) ||
        (error = vm_complete(&machine->vm)) || (error = machine_await(machine, 2)))
        return error;
    timeline_mark(&machine->timeline, PHASE_SANDBOX);
    if ((error = machine->snapshot ? machine_load(machine) : machine_boot(machine)))
        return error;
    timeline_mark(&machine->timeline, PHASE_IMAGE);
    error = parts_wait(&machine->board);
    if (!error)
        vm_take_thread(&machine->vm);
    return error;
}

void machine_run_vcpu(struct machine *machine)
{
    vm_run_vcpu(&machine->vm);
}

void machine_park(struct machine *machine)
{
    vm_park(&machine->vm);
}

void machine_resume(struct machine *machine)
{
    vm_resume(&machine->vm);
}

bool machine_find_unparked(struct machine *machine, char *name, size_t size)
{
    return vm_find_unparked(&machine->vm, name, size);
}

int machine_parked_fd(const struct machine *machine)
{
    return machine->vm.all_parked;
}

bool machine_reset_is_warm(const struct machine *machine)
{
    return arch_reset_is_warm(&machine->vm);
}

void machine_pause_consoles(struct machine *machine)
{
    consoles_each(&machine->board, terminal_pause);
}

void machine_resume_consoles(struct machine *machine)
{
    consoles_each(&machine->board, terminal_resume);
}

int machine_pause_devices(struct machine *machine, uint64_t deadline_ns, const char **ret_busy)
{
    return board_pause(&machine->board, deadline_ns, ret_busy);
}

void machine_resume_devices(struct machine *machine)
{
    board_resume(&machine->board);
}

void machine_stop(struct machine *machine)
{
    vm_destroy(&machine->vm);
}

void machine_reset(struct machine *machine)
{
    board_reset(&machine->board);
    guest_memory_clear(machine->memory);
}
