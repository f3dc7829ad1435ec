/* SPDX-License-Identifier: MIT */

/*
 * A forged configuration in a saved state. Either one with everything is edited as the input says,
 * or the input is the state. What can be loaded can be saved, and loaded again as the same.
 *
 *     input := u8 kind  (u16 offset  u8 value)...       (kind + 0x80: the rest is the state)
 */
#include "vmm/config/config_state.h"

#include <string.h>

#include "tests/fuzz/fuzz.h"
#include "vmm/config/config.h"
#include "vmm/config/schema.h"
#include "vmm/core/base.h"
#include "vmm/core/log.h"
#include "vmm/core/state.h"

#define EDIT 3 /* bytes */

static const char *const words[] = {
    "minivmm",
    "--kernel=kernel",
    "--initrd=/boot/initrd",
    "--cmdline=console=ttyS0 x",
    "--cpus=3,pmu",
    "--disk=a.img,ro,serial=first,engine=thread,poll=77",
    "--disk=/b.img,throw-away,max=2G",
    "--net=user,hostfwd=tcp::8080-:80",
    "--net=tap,name=tap0,mac=52:54:00:00:00:07",
    "--share=dir,tag=work,rw,guarded",
    "--serial=file=serial.log,append",
    "--console=stdio",
    "--port=name=one,fd=0",
};

static void save(struct config *config, struct state *ret)
{
    state_begin_save(ret);
    config_state(config, ret);
    demand(ret->error == 0);
}

static void save_full(struct state *ret)
{
    char *copy[ARRAY_SIZE(words) + 1] = { NULL };
    struct config config;

    for (unsigned i = 0; i < ARRAY_SIZE(words); i++)
        demand((copy[i] = strdup(words[i])) != NULL);
    demand(config_parse(&config, NULL, ARRAY_SIZE(words), copy) == CONFIG_RUN);
    save(&config, ret);
    config_finish(&config);
    for (unsigned i = 0; i < ARRAY_SIZE(words); i++)
        free(copy[i]);
}

static int load(struct config *config, const uint8_t *bytes, size_t size)
{
    struct state in;

    demand(config_set_defaults(config) == 0);
    state_begin_load(&in, bytes, size);
    config_state(config, &in);
    return state_finish(&in);
}

static void check_limits(const struct config *config)
{
    demand(config->memory >= CONFIG_MIN_MEMORY && config->memory <= CONFIG_MAX_SIZE);
    demand(config->memory % MIB == 0);
    demand(config->cpus >= 1 && config->cpus <= CONFIG_MAX_CPUS);
    for (const struct disk_config *disk = config->disks; disk; disk = disk->next)
        demand(disk->image.path && disk->poll_us >= -1 && disk->poll_us <= CONFIG_MAX_POLL);
    for (const struct share_config *share = config->shares; share; share = share->next)
        demand(share->directory.path && !(share->directory.overlaid && share->directory.writable));
    config_check(config);
}

static void use(const uint8_t *bytes, size_t size)
{
    struct config config, again;
    struct state first, second;

    if (load(&config, bytes, size) == 0) {
        check_limits(&config);
        save(&config, &first);
        demand(load(&again, first.bytes, first.at) == 0);
        save(&again, &second);
        demand(first.at == second.at && !memcmp(first.bytes, second.bytes, first.at));
        config_finish(&again);
        state_finish(&first);
        state_finish(&second);
    }
    config_finish(&config);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct state full;
    struct state edited;

    log_set_level(LOG_LEVEL_ERROR);
    log_expect_errors(true);
    if (!full.bytes)
        save_full(&full);
    if (size == 0)
        return 0;
    if (data[0] & 0x80) {
        use(data + 1, size - 1);
        return 0;
    }
    edited = full;
    edited.bytes = malloc(full.at);
    demand(edited.bytes);
    memcpy(edited.bytes, full.bytes, full.at);
    for (data++, size--; size >= EDIT; data += EDIT, size -= EDIT)
        edited.bytes[(data[0] | data[1] << 8) % edited.at] = data[2];
    use(edited.bytes, edited.at);
    free(edited.bytes);
    return 0;
}
