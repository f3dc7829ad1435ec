/* SPDX-License-Identifier: MIT */
#include "vmm/config/config_state.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "tests/unit/unit.h"
#include "vmm/config/config.h"
#include "vmm/config/schema.h"
#include "vmm/core/base.h"
#include "vmm/core/log.h"
#include "vmm/core/state.h"

/* Every option that the guest sees. */
static const char *const words[] = {
    "minivmm",
    "--kernel=kernel",
    "--initrd=/boot/initrd",
    "--cmdline=console=ttyS0 x",
    "--memory=4G",
    "--cpus=3,nested,pmu",
    "--disk=a.img,ro,serial=first,direct,engine=thread,poll=77",
    "--disk=/b.img,throw-away,max=2G,format=raw,poll=auto,engine=io_uring",
    "--net=user,hostfwd=tcp::8080-:80,hostfwd=udp:10.1.2.3:53-:5353,host-loopback",
    "--net=tap,name=tap0,vhost,mac=52:54:00:00:00:07",
    "--share=dir,tag=work,rw,guarded,uid=1000,gid=4294967294",
    "--share=/other,tag=other",
    "--serial=file=serial.log,append,max=1M",
    "--console=stdio",
    "--port=name=one,fd=0",
    "--port=name=two,fd=1",
    "--no-rng",
    "--balloon",
    "--no-reboot",
};

static void parse(struct config *config, const char *const *options, unsigned count)
{
    static struct arena copies; /* the configuration points to them */
    char *copy[ARRAY_SIZE(words) + 1];

    for (unsigned i = 0; i < count; i++)
        copy[i] = strcpy(arena_alloc(&copies, strlen(options[i]) + 1), options[i]);
    copy[count] = NULL;
    ck_assert_int_eq(config_parse(config, NULL, (int)count, copy), CONFIG_RUN);
    config->directory = "/work";
    config->serial.append = config->console.append = true; /* as it is after a load */
}

static void save(struct config *config, struct state *s)
{
    state_begin_save(s);
    config_state(config, s);
    ck_assert_str_eq(s->why, "");
}

static int load(struct config *config, const struct state *saved, char *why)
{
    struct state s;
    int error;

    ck_assert_int_eq(config_set_defaults(config), 0);
    state_begin_load(&s, saved->bytes, saved->at);
    config_state(config, &s);
    error = state_finish(&s);
    strcpy(why, s.why);
    return error;
}

static void save_full(struct state *s)
{
    struct config config;

    parse(&config, words, ARRAY_SIZE(words));
    save(&config, s);
    config_finish(&config);
}

START_TEST(a_configuration_with_everything)
{
    char why[sizeof(((struct state *)0)->why)];
    struct state first, second;
    struct config config;

    save_full(&first);
    ck_assert_int_eq(load(&config, &first, why), 0);
    ck_assert_int_eq(config_check(&config), 0);
    save(&config, &second);
    ck_assert_uint_eq(first.at, second.at);
    ck_assert_mem_eq(first.bytes, second.bytes, first.at);

    ck_assert_str_eq(config.kernel, "/work/kernel");
    ck_assert_str_eq(config.initrd, "/boot/initrd");
    ck_assert_str_eq(config.cmdline, "console=ttyS0 x");
    ck_assert(config.memory == 4 * GIB && config.cpus == 3 && config.nested && config.pmu);
    ck_assert(!config.rng && config.balloon && !config.reboot && config.restored);
    ck_assert_str_eq(config.disks->image.path, "/work/a.img");
    ck_assert_str_eq(config.disks->serial, "first");
    ck_assert(config.disks->image.read_only && config.disks->poll_us == 77);
    ck_assert(config.disks->next->image.throw_away && config.disks->next->poll_us == -1);
    ck_assert_uint_eq(config.nets->user.network.forwards->next->guest_port, 5353);
    ck_assert_str_eq(config.nets->next->tap.interface, "tap0");
    ck_assert_uint_eq(config.nets->next->mac[5], 7);
    ck_assert(config.nets->next->tap.fd == -1 && config.nets->user.fd == -1);
    ck_assert_str_eq(config.shares->directory.path, "/work/dir");
    ck_assert(config.shares->directory.names_fd == -1 && config.shares->directory.guarded);
    ck_assert_str_eq(config.serial.path, "/work/serial.log");
    ck_assert(config.serial.max == MIB && config.console.kind == CONSOLE_STDIO);
    ck_assert_str_eq(config.ports->next->name, "two");
    ck_assert(config.ports->input == -1 && config.ports->output == -1);
    state_finish(&first);
    state_finish(&second);
    config_finish(&config);
}
END_TEST

START_TEST(the_smallest_configuration)
{
    char why[sizeof(((struct state *)0)->why)];
    struct state first, second;
    struct config config, loaded;

    parse(&config, (const char *[]){ "minivmm", "--kernel=/k", "--net=none" }, 3);
    save(&config, &first);
    ck_assert_int_eq(load(&loaded, &first, why), 0);
    ck_assert_ptr_null(loaded.nets);
    ck_assert(!loaded.cmdline && !loaded.initrd && !loaded.disks && !loaded.balloon);
    save(&loaded, &second);
    ck_assert_uint_eq(first.at, second.at);
    ck_assert_mem_eq(first.bytes, second.bytes, first.at);
    state_finish(&first);
    state_finish(&second);
    config_finish(&loaded);
    config_finish(&config);
}
END_TEST

/* The value of the first field with this name after the first field `after`. */
static uint8_t *field(const struct state *s, const char *after, const char *name)
{
    const char *wanted = after;
    size_t length = strlen(wanted);

    for (size_t at = 0; at + length + 1 < s->at; at++) {
        if (s->bytes[at] != length || memcmp(s->bytes + at + 1, wanted, length) != 0)
            continue;
        if (wanted == name)
            return s->bytes + at + 1 + length;
        at += length;
        wanted = name;
        length = strlen(name);
    }
    ck_abort_msg("no field %s", name);
}

static const struct hostile {
    const char *after, *field;
    uint64_t value;
    unsigned size; /* bytes */
    const char *why;
} hostile[] = {
    { "dtb", "memory", 0, 8, "memory: 0 is not from" },
    { "dtb", "memory", 1 * MIB, 8, "memory: 1048576 is not from" },
    { "dtb", "memory", 64 * MIB + 4096, 8, "not a multiple of 1M" },
    { "dtb", "memory", 64 * MIB + 1, 8, "not a multiple of 1M" },
    { "dtb", "memory", ~0ull, 8, "is not from" },
    { "dtb", "memory", 1ull << 63, 8, "is not from" },
    { "dtb", "memory", 17 * 1024 * GIB, 8, "is not from" },
    { "dtb", "cpus", 0, 4, "cpus: 0 is not from 1 to 1024" },
    { "dtb", "cpus", 1025, 4, "cpus: 1025" },
    { "dtb", "cpus", ~0u, 4, "cpus" },
    { "dtb", "nested", 2, 1, "nested: neither true nor false" },
    { "reboot", "disks", 257, 4, "disks: 257, at most 256" },
    { "reboot", "disks", ~0u, 4, "disks" },
    { "reboot", "disks", 3, 4, "expected" },
    { "disks", "max", MIB + 1, 8, "max: 1048577 is not a multiple" },
    { "disks", "max", ~0ull, 8, "max" },
    { "disks", "engine", 3, 4, "engine: 3 is unknown" },
    { "disks", "engine", ~0u, 4, "engine" },
    { "disks", "poll_us", (uint32_t)-2, 4, "poll_us: 4294967294" },
    { "disks", "poll_us", 10001, 4, "poll_us: 10001" },
    { "disks", "serial", 21, 4, "serial: 21 bytes, at most 20" },
    { "nets", "kind", 2, 4, "kind: 2 is unknown" },
    { "nets", "forwards", 257, 4, "forwards: 257" },
    { "nets", "host_port", 0, 2, "host_port: 0" },
    { "nets", "guest_port", 0, 2, "guest_port: 0" },
    { "nets", "mac", 6 | 1ull << 32, 5, "mac" },
    { "nets", "mac", 5, 4, "mac: 5 bytes, not 6" },
    { "shares", "tag", 37, 4, "tag: 37 bytes" },
    { "shares", "guest_uid", ~0u, 4, "guest_uid" },
    { "shares", "guest_gid", ~0u, 4, "guest_gid" },
    { "shares", "overlaid", 1, 1, "overlay" },
    { "guest_gid", "serial", 4, 4, "serial: 4 is unknown" },
    { "guest_gid", "max", 512, 8, "max: 512 is not a multiple" },
};

START_TEST(what_the_command_line_refuses_is_refused)
{
    const struct hostile *h = &hostile[_i];
    char why[sizeof(((struct state *)0)->why)];
    struct config config;
    struct state s;

    save_full(&s);
    memcpy(field(&s, h->after, h->field), &h->value, h->size);
    ck_assert_int_eq(load(&config, &s, why), -EINVAL);
    ck_assert_msg(strstr(why, h->why), "%s", why);
    state_finish(&s);
    config_finish(&config);
}
END_TEST

/* Texts: the bytes of a field begin after their length. */
START_TEST(hostile_texts)
{
    static const struct {
        const char *after, *field;
        unsigned offset;
        uint8_t byte;
        const char *why;
    } texts[] = {
        { "kernel", "initrd", 12, 'x', "initrd is not a text" }, /* no NUL at the end */
        { "kernel", "initrd", 3, '\0', "initrd is not a text" }, /* one in the middle */
        { "disks", "serial", 2, '\0', "serial is not a text" },  /* in an array */
        { "nets", "interface", 0, '\0', "interface is not a text" },
    };
    char why[sizeof(((struct state *)0)->why)];

    for (unsigned i = 0; i < ARRAY_SIZE(texts); i++) {
        struct config config;
        struct state s;
        uint8_t *at;

        save_full(&s);
        at = field(&s, texts[i].after, texts[i].field);
        while (at[0] == 0 && at[1] == 0) /* the first NIC has no interface */
            at = field(&(struct state){ .bytes = at, .at = (size_t)(s.bytes + s.at - at) },
                       texts[i].field, texts[i].field);
        at[4 + texts[i].offset] = texts[i].byte;
        ck_assert_int_eq(load(&config, &s, why), -EINVAL);
        ck_assert_msg(strstr(why, texts[i].why), "%s", why);
        state_finish(&s);
        config_finish(&config);
    }
}
END_TEST

/* A configuration whose texts cannot be, as no command line has them. */
START_TEST(texts_that_are_empty_or_too_long)
{
    static char longest[9000];
    static const struct share_options share = { .path = "", .names_fd = -1 };
    char why[sizeof(((struct state *)0)->why)];
    struct config config, loaded;
    struct state s;

    for (unsigned i = 0; i < 5; i++) {
        parse(&config, (const char *[]){ "minivmm", "--kernel=/k", "--net=tap,name=t" }, 3);
        config.directory = NULL;
        config.kernel = i == 0 ? "" : "/k";
        config.nets->tap.interface = i == 1 ? "" : i == 2 ? "a-name-of-16-byt" : "t";
        if (i == 3)
            config_add_share(&config)->directory = share;
        if (i == 4)
            config_add_port(&config)->name =
                "a-name-of-64-bytes-------------------------------------64 bytes.";
        save(&config, &s);
        ck_assert_int_eq(load(&loaded, &s, why), -EINVAL);
        ck_assert_msg(strstr(why, i == 0   ? "kernel is empty"
                                  : i <= 2 ? "interface: "
                                  : i == 3 ? "path is empty"
                                           : "name: 64"),
                      "%u: %s", i, why);
        state_finish(&s);
        config_finish(&loaded);
        config_finish(&config);
    }
    memset(longest, 'x', sizeof(longest) - 1);
    parse(&config, (const char *[]){ "minivmm", "--kernel=/k" }, 2);
    config.cmdline = longest;
    state_begin_save(&s);
    config_state(&config, &s);
    ck_assert_str_eq(s.why, "config: cmdline is too long");
    state_finish(&s);
    config_finish(&config);
}
END_TEST

/* Whatever a byte is changed to, the result is an error or a configuration that can be saved. */
START_TEST(any_changed_byte)
{
    static const uint8_t changes[] = { 0x01, 0x7f, 0x80, 0xff };
    char why[sizeof(((struct state *)0)->why)];
    struct state s, again;
    struct config config;

    log_set_level(LOG_LEVEL_ERROR);
    log_expect_errors(true);
    save_full(&s);
    for (size_t at = 0; at < s.at; at++)
        for (unsigned i = 0; i < ARRAY_SIZE(changes); i++) {
            s.bytes[at] ^= changes[i];
            if (load(&config, &s, why) == 0) {
                config_check(&config);
                save(&config, &again);
                state_finish(&again);
            }
            config_finish(&config);
            s.bytes[at] ^= changes[i];
        }
    for (size_t size = s.at; size > 0; size--) {
        struct state less = { .bytes = s.bytes, .at = size - 1 };

        ck_assert_int_eq(load(&config, &less, why), -EINVAL);
        config_finish(&config);
    }
    state_finish(&s);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("config_state");
    TCase *tcase = tcase_create("config_state");

    tcase_add_test(tcase, a_configuration_with_everything);
    tcase_add_test(tcase, the_smallest_configuration);
    tcase_add_loop_test(tcase, what_the_command_line_refuses_is_refused, 0, ARRAY_SIZE(hostile));
    tcase_add_test(tcase, hostile_texts);
    tcase_add_test(tcase, texts_that_are_empty_or_too_long);
    tcase_add_test(tcase, any_changed_byte);
    suite_add_tcase(suite, tcase);
    return unit_run(suite);
}
