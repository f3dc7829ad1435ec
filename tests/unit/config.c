/* SPDX-License-Identifier: MIT */
#include "vmm/config/config.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "tests/unit/unit.h"
#include "vmm/config/parse.h"
#include "vmm/config/schema.h"
#include "vmm/core/base.h"
#include "vmm/run/options.h"

#define MAX_WORDS 32

struct line {
    const char *words;    /* separated by spaces */
    const char *expected; /* describe()'s text, or the error message */
};

static enum config_result parse_words(struct config *config, char **words)
{
    char name[] = "minivmm", *argv[MAX_WORDS] = { name };
    int argc = 1;

    while (*words)
        argv[argc++] = *words++;
    return config_parse(config, &run_options_table, argc, argv);
}

static enum config_result parse(struct config *config, const char *line)
{
    static char copy[4096];
    char *words[MAX_WORDS] = { NULL }, *rest = copy;

    snprintf(copy, sizeof(copy), "%s", line);
    for (unsigned i = 0; *line && rest; i++)
        words[i] = strsep(&rest, " ");
    return parse_words(config, words);
}

static void describe_console(FILE *out, const char *name, const struct console_config *console)
{
    static const char *const kinds[] = { "none", "stdio", "file", "fd" };

    if (console->implied && !strcmp(kinds[console->kind], name[0] == 's' ? "stdio" : "none"))
        return;
    fprintf(out, " %s:%s", name, kinds[console->kind]);
    if (console->kind == CONSOLE_FILE)
        fprintf(out, ":%s%s", console->path, console->append ? ":append" : "");
    if (console->kind == CONSOLE_FD)
        fprintf(out, ":%d", console->fd);
}

static void describe_net(FILE *out, const struct net_config *net)
{
    fprintf(out, " %s", net->kind == NET_USER ? "user" : "tap");
    if (net->tap.interface)
        fprintf(out, ":%s", net->tap.interface);
    if (net->tap.fd >= 0)
        fprintf(out, ":%d", net->tap.fd);
    if (net->vhost)
        fprintf(out, ":vhost");
    fprintf(out, "%s", net->user.network.host_loopback ? ":loopback" : "");
    for (const struct slirp_forward *f = net->user.network.forwards; f; f = f->next)
        fprintf(out, ":%s:%s:%u>%u", f->udp ? "udp" : "tcp",
                inet_ntoa((struct in_addr){ f->host_addr }), f->host_port, f->guest_port);
    if (net->mac_set)
        fprintf(out, ":%02x..%02x", net->mac[0], net->mac[5]);
}

/* Lists what differs from the defaults, each item after a space. */
static void describe(char *text, size_t size, const struct config *config)
{
    FILE *out = fmemopen(text, size, "w");

    if (config->initrd)
        fprintf(out, " initrd:%s", config->initrd);
    if (config->cmdline)
        fprintf(out, " cmdline:%s", config->cmdline);
    if (config->memory != 512 * MIB)
        fprintf(out, " %lluM", (unsigned long long)(config->memory / MIB));
    if (config->cpus != 1)
        fprintf(out, " %ucpus", config->cpus);
    if (config->nested || config->pmu)
        fprintf(out, "%s%s", config->nested ? ",nested" : "", config->pmu ? ",pmu" : "");
    for (const struct disk_config *d = config->disks; d; d = d->next)
        fprintf(out, " disk:%s%s%s%s%s:%u:%s", d->image.path, d->image.read_only ? ":ro" : "",
                d->image.throw_away ? ":throw" : "", d->image.format_raw ? ":raw" : "",
                d->image.direct ? ":direct" : "", d->image.engine, d->serial);
    for (const struct disk_config *d = config->disks; d; d = d->next)
        if (d->poll_us >= 0)
            fprintf(out, " poll:%d", d->poll_us);
    for (const struct disk_config *d = config->disks; d; d = d->next)
        if (d->image.max)
            fprintf(out, " max:%lluM", (unsigned long long)(d->image.max / MIB));
    for (const struct net_config *n = config->nets; n; n = n->next)
        if (!n->implied)
            describe_net(out, n);
    fprintf(out, "%s", config->nets ? "" : " nonet");
    describe_console(out, "serial", &config->serial);
    describe_console(out, "console", &config->console);
    fprintf(out, "%s%s%s%s%s", config->rng ? "" : " norng", config->balloon ? " balloon" : "",
            config->reboot ? "" : " noreboot", config->stats ? " stats" : "",
            config->dry_run ? " dry" : "");
    if (config->timeout_ms)
        fprintf(out, " timeout:%llu", (unsigned long long)config->timeout_ms);
    if (config->grace_ms != 10000)
        fprintf(out, " grace:%llu", (unsigned long long)config->grace_ms);
    if (config->log_level != LOG_LEVEL_WARN)
        fprintf(out, " log:%u", config->log_level);
    fclose(out);
}

static void check_accepted(const struct line *lines, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct config config;
        char words[4096], text[4096] = "";

        snprintf(words, sizeof(words), "--kernel k %s", lines[i].words);
        if (!*lines[i].words)
            words[strlen("--kernel k")] = '\0';
        ck_assert_msg(parse(&config, words) == CONFIG_RUN, "refused: %s", words);
        ck_assert_str_eq(config.kernel, "k");
        describe(text, sizeof(text), &config);
        ck_assert_msg(!strcmp(text, lines[i].expected), "%s:%s, not%s", lines[i].words, text,
                      lines[i].expected);
        config_finish(&config);
    }
}

/* Captures what is written to `fd`, until captured(). */
static FILE *capture(int fd)
{
    FILE *file = tmpfile();

    ck_assert_ptr_nonnull(file);
    fflush(stdout);
    dup2(fileno(file), fd);
    return file;
}

static const char *captured(FILE *file)
{
    static char text[8192];

    fflush(stdout);
    rewind(file);
    text[fread(text, 1, sizeof(text) - 1, file)] = '\0';
    rewind(file);
    ck_assert_int_eq(ftruncate(fileno(file), 0), 0);
    return text;
}

/* Each command line must fail with the one-line error `expected`. */
static void check_refused(const struct line *lines, size_t count)
{
    FILE *errors = capture(STDERR_FILENO);

    for (size_t i = 0; i < count; i++) {
        struct config config;
        char expected[1024];
        const char *text;

        ck_assert_msg(parse(&config, lines[i].words) == CONFIG_USAGE, "accepted: %s",
                      lines[i].words);
        config_finish(&config);
        snprintf(expected, sizeof(expected), "minivmm: %s\n", lines[i].expected);
        text = captured(errors);
        ck_assert_msg(!strcmp(text, expected), "%s: %s", lines[i].words, text);
    }
    fclose(errors);
}

#define CHECK(how, ...)                                 \
    do {                                                \
        static const struct line lines[] = __VA_ARGS__; \
        how(lines, ARRAY_SIZE(lines));                  \
    } while (0)

START_TEST(options)
{
    CHECK(check_accepted,
          {
              { "", "" },
              { "--initrd=i", " initrd:i" },
              { "--initrd i", " initrd:i" },
              { "--initrd a,b=c", " initrd:a,b=c" },
              { "--cmdline=", " cmdline:" },
              { "--cmdline --x=y,z", " cmdline:--x=y,z" },
              { "-m 128M", " 128M" },
              { "--memory 6G --cpus 4", " 6144M 4cpus" },
              { "--memory 0x10000000", " 256M" },
              { "--memory 1t", " 1048576M" },
              { "-c 1024", " 1024cpus" },
              { "-c2 -m64M", " 64M 2cpus" },
              { "-c=2 -m=64M", " 64M 2cpus" },
              { "--no-rng --no-reboot --stats --dry-run", " norng noreboot stats dry" },
              { "--balloon", " balloon" },
              { "--timeout 30", " timeout:30000" },
              { "--timeout 30s --grace 0", " timeout:30000 grace:0" },
              { "--timeout 500ms --grace=2h", " timeout:500 grace:7200000" },
              { "--log-level error", " log:0" },
              { "--log-level debug", " log:3" },
          });
}
END_TEST

START_TEST(later_options_override)
{
    CHECK(check_accepted, {
                              { "--cpus 2 --cpus 3", " 3cpus" },
                              { "--cpus 2,nested,pmu=on", " 2cpus,nested,pmu" },
                              { "--cpus 2,nested,pmu --cpus 3,nested=off", " 3cpus" },
                              { "--timeout 3 --timeout 0", "" },
                              { "--no-rng --no-rng=off", "" },
                              { "--balloon --balloon=off", "" },
                              { "--serial file=a,append --serial file=b", " serial:file:b" },
                              { "--net user --net none", " nonet" },
                              { "--net none --net tap,fd=3", " tap:3" },
                          });
}
END_TEST

START_TEST(disks)
{
    CHECK(check_accepted, {
                              { "--disk a", " disk:a:0:" },
                              { "--disk a --disk b,ro", " disk:a:0: disk:b:ro:0:" },
                              { "--disk a,ro=on,direct=off", " disk:a:ro:0:" },
                              { "--disk path=a,direct,engine=thread", " disk:a:direct:2:" },
                              { "--disk a,serial=12345678901234567890,engine=io_uring",
                                " disk:a:1:12345678901234567890" },
                              { "--disk ro", " disk:ro:0:" },
                              { "--disk a,format=raw", " disk:a:raw:0:" },
                              { "--disk a,throw-away", " disk:a:throw:0:" },
                              { "--disk a,throw-away,max=4G", " disk:a:throw:0: max:4096M" },
                              { "--disk a,throw-away,ro=off", " disk:a:throw:0:" },
                              { "--disk a,poll=50", " disk:a:0: poll:50" },
                              { "--disk a,poll=0", " disk:a:0: poll:0" },
                              { "--disk a,poll=auto", " disk:a:0:" },
                          });
}
END_TEST

START_TEST(shares)
{
    static const struct line good[] = {
        { "", "" },
        { "--share /,tag=a", " share:/:a" },
        { "--share d --share /a/b/,rw --share ./c", " share:d:d share:/a/b/:b:rw share:./c:c" },
        { "--share d,tag=a,rw --share d,rw=off,tag=b", " share:d:a:rw share:d:b" },
        { "--share path=x,,y,tag=012345678901234567890123456789012345",
          " share:x,y:012345678901234567890123456789012345" },
    };

    for (unsigned i = 0; i < ARRAY_SIZE(good); i++) {
        struct config config;
        char said[256] = "", line[256];

        snprintf(line, sizeof(line), "--kernel k%s%s", *good[i].words ? " " : "", good[i].words);
        ck_assert_int_eq(parse(&config, line), CONFIG_RUN);
        for (const struct share_config *s = config.shares; s; s = s->next)
            snprintf(said + strlen(said), sizeof(said) - strlen(said), " share:%s:%s%s",
                     s->directory.path, s->tag, s->directory.writable ? ":rw" : "");
        ck_assert_str_eq(said, good[i].expected);
        config_finish(&config);
    }
}
END_TEST

START_TEST(owner_of_shared_files)
{
    struct config config;

    ck_assert_int_eq(parse(&config, "--kernel k --share a --share b,uid=1000,gid=4294967294"),
                     CONFIG_RUN);
    ck_assert_uint_eq(config.shares->directory.guest_uid, 0);
    ck_assert_uint_eq(config.shares->directory.guest_gid, 0);
    ck_assert_uint_eq(config.shares->next->directory.guest_uid, 1000);
    ck_assert_uint_eq(config.shares->next->directory.guest_gid, 4294967294);
    config_finish(&config);
    ck_assert_int_eq(parse(&config, "--kernel k --share a,uid=4294967295"), CONFIG_USAGE);
    config_finish(&config);
}
END_TEST

START_TEST(file_names_with_commas_and_equal_signs)
{
    CHECK(check_accepted, {
                              { "--disk a,,b.img", " disk:a,b.img:0:" },
                              { "--disk a,,,,,ro", " disk:a,,:ro:0:" },
                              { "--disk ,,,,", " disk:,,:0:" },
                              { "--disk a=b", " disk:a=b:0:" },
                              { "--disk engine=a,ro", " disk:engine=a:ro:0:" },
                              { "--disk path=path=a=,,b", " disk:path=a=,b:0:" },
                              { "--disk path", " disk:path:0:" },
                              { "--disk=a=b", " disk:a=b:0:" },
                              { "--disk a,serial=x,,y=z", " disk:a:0:x,y=z" },
                              { "--serial file=a,,b=c,append", " serial:file:a,b=c:append" },
                          });
}
END_TEST

START_TEST(networks)
{
    CHECK(check_accepted,
          {
              { "--net user", " user" },
              { "--net user --net user", " user user" },
              { "--net user,hostfwd=tcp::8080-:80", " user:tcp:127.0.0.1:8080>80" },
              { "--net user,hostfwd=::1-2", " user:tcp:127.0.0.1:1>2" },
              { "--net user,hostfwd=:65535-:65535", " user:tcp:127.0.0.1:65535>65535" },
              { "--net user,hostfwd=udp:0.0.0.0:53-53,hostfwd=tcp:22-:22",
                " user:udp:0.0.0.0:53>53:tcp:127.0.0.1:22>22" },
              { "--net user,host-loopback,mac=52:54:00:AB:cd:ef", " user:loopback:52..ef" },
              { "--net tap,name=tap0,mac=02:00:00:00:00:01", " tap:tap0:02..01" },
              { "--net tap,fd=0", " tap:0" },
          });
}
END_TEST

START_TEST(consoles)
{
    CHECK(check_accepted, {
                              { "--serial none", " serial:none" },
                              { "--serial fd=7", " serial:fd:7" },
                              { "--console stdio", " serial:none console:stdio" },
                              { "--console stdio --serial none", " serial:none console:stdio" },
                              { "--serial stdio --console file=c", " serial:stdio console:file:c" },
                              { "--console file=c", " console:file:c" },
                          });
}
END_TEST

START_TEST(words_that_are_no_options)
{
    CHECK(check_refused,
          {
              { "--kernel k bzImage",
                "unexpected argument 'bzImage'; --kernel names a kernel (see minivmm --help)" },
              { "--cpus 2 run", "run must be the first word: minivmm run [OPTION]... CMD" },
          });
}
END_TEST

START_TEST(options_of_another_command_line)
{
    CHECK(
        check_refused,
        {
            { "--root /",
              "'--root' is an option of minivmm run, not of minivmm (see minivmm --help)" },
            { "--rw=x", "'--rw' is an option of minivmm run, not of minivmm (see minivmm --help)" },
            { "-j2", "'-j2' is an option of minivmm run, not of minivmm (see minivmm --help)" },
        });
}
END_TEST

START_TEST(options_where_a_value_is_missing)
{
    CHECK(check_refused,
          {
              { "--kernel --disk x",
                "--kernel: needs a value: FILE; if it is '--disk', write --kernel=--disk" },
              { "--disk --kernel=k",
                "--disk: needs a value: DISK; if it is '--kernel=k', write --disk=--kernel=k" },
              { "-m -c 2", "--memory: needs a value: SIZE; if it is '-c', write --memory=-c" },
              { "--kernel --", "--kernel: needs a value: FILE; if it is '--', write --kernel=--" },
          });
    CHECK(check_accepted, {
                              { "--initrd=--disk", " initrd:--disk" },
                              { "--cmdline -no-option", " cmdline:-no-option" },
                          });
}
END_TEST

START_TEST(unknown_words_are_refused)
{
    CHECK(check_refused,
          {
              { "--kernl k", "unknown option '--kernl'; did you mean --kernel?" },
              { "-kernel k", "unknown option '-kernel'; did you mean --kernel?" },
              { "--mem=1G", "unknown option '--mem'; did you mean --memory?" },
              { "--quite-another=1", "unknown option '--quite-another' (see minivmm --help)" },
              { "-x", "unknown option '-x' (see minivmm --help)" },
              { "-memory 512M", "unknown option '-memory'; did you mean --memory?" },
              { "-cpus=2", "unknown option '-cpus'; did you mean --cpus?" },
              { "-=2", "unknown option '-' (see minivmm --help)" },
              { "-hV", "unknown option '-hV' (see minivmm --help)" },
              { "--", "unknown option '--' (see minivmm --help)" },
              { "--=", "unknown option '--' (see minivmm --help)" },
              { "-", "unexpected argument '-' (see minivmm --help)" },
              { "--disk a,cahce=1", "--disk: unknown key 'cahce'; known: ro, throw-away, max, "
                                    "format, direct, engine, poll, serial" },
              { "--disk a,", "--disk: unknown key ''; known: ro, throw-away, max, format, direct, "
                             "engine, poll, serial" },
              { "--disk ro=on,path=a", "--disk: unknown key 'path'; known: ro, throw-away, max, "
                                       "format, direct, engine, poll, serial" },
              { "--net bridge", "--net: unknown word 'bridge'; known: user, tap, none" },
              { "--net ,user", "--net: unknown word ''; known: user, tap, none" },
              { "--net user,name=tap0",
                "--net user: unknown key 'name'; known: hostfwd, host-loopback, mac, fd" },
              { "--net none,mac=x", "--net none: takes no keys; remove 'mac'" },
              { "--serial pty", "--serial: unknown word 'pty'; known: none, stdio, file, fd" },
              { "--serial file=a,b", "--serial file: unknown key 'b'; known: append, max" },
          });
}
END_TEST

START_TEST(missing_and_extra_values_are_refused)
{
    CHECK(check_refused,
          {
              { "--kernel", "--kernel: needs a value: FILE" },
              { "--kernel=", "--kernel: needs a value: FILE" },
              { "--initrd=", "--initrd: needs a value: FILE" },
              { "--disk", "--disk: needs a value: DISK" },
              { "--disk=", "--disk: needs a value: FILE" },
              { "--disk ,ro", "--disk: needs a value: FILE" },
              { "--disk path=", "--disk: needs a value: FILE" },
              { "--disk a,poll=10001", "--disk: poll: '10001' is not a number from 0 to 10000" },
              { "--disk a,engine", "--disk: engine: needs a value: auto|io_uring|thread" },
              { "--disk a,ro,ro=off", "--disk: 'ro' is given twice" },
              { "--disk a,max=1k,throw-away",
                "--disk: max: '1k' is not a size from 1M to 16384G, such as 4G" },
              { "--disk a,serial=", "--disk: serial: needs a value: TEXT" },
              { "--net user=on", "--net user: takes no value" },
              { "--net user,mac=02:00:00:00:00:00,mac=02:00:00:00:00:01",
                "--net user: 'mac' is given twice" },
              { "--serial file", "--serial file: needs a value: PATH" },
              { "--serial file=", "--serial file: needs a value: PATH" },
              { "--serial file=a,max", "--serial file: max: needs a value: SIZE" },
              { "--serial file=a,max=1k",
                "--serial file: max: '1k' is not a size from 1M to 16384G, such as 4G" },
              { "--serial stdio=off", "--serial stdio: takes no value" },
              { "--version=1", "--version: takes no value" },
          });
}
END_TEST

#define NO_SIZE    "' is not a size from 16M to 16384G, such as 4G"
#define NO_TIME    "' is not a time up to a year, such as 30s, 500ms, 5m or 2h"
#define NO_FORWARD "' is not of the form [tcp|udp]:[ADDR:]PORT-:PORT"

START_TEST(numbers)
{
    CHECK(check_refused,
          {
              { "-m 0", "--memory: '0" NO_SIZE },
              { "-m 512", "--memory: '512" NO_SIZE },
              { "-m 15M", "--memory: '15M" NO_SIZE },
              { "-m 17T", "--memory: '17T" NO_SIZE },
              { "-m 1.5G", "--memory: '1.5G" NO_SIZE },
              { "-m -1G", "--memory: '-1G" NO_SIZE },
              { "-m 512MB", "--memory: '512MB" NO_SIZE },
              { "-m 0xg", "--memory: '0xg" NO_SIZE },
              { "-m 0x", "--memory: '0x" NO_SIZE },
              { "-m ", "--memory: '" NO_SIZE },
              { "-m 17592186044417M", "--memory: '17592186044417M" NO_SIZE },
              { "-m 18446744073709551617G", "--memory: '18446744073709551617G" NO_SIZE },
              { "-m 16777217", "--memory: '16777217' is not a multiple of 1M" },
              { "-c2=", "--cpus: '2=' is not a number from 1 to 1024" },
              { "-c=", "--cpus: '' is not a number from 1 to 1024" },
              { "-c", "--cpus: needs a value: N" },
              { "-c 0", "--cpus: '0' is not a number from 1 to 1024" },
              { "-c 1025", "--cpus: '1025' is not a number from 1 to 1024" },
              { "-c 4294967297", "--cpus: '4294967297' is not a number from 1 to 1024" },
              { "-c 2k", "--cpus: '2k' is not a number from 1 to 1024" },
              { "--serial fd=-1", "--serial fd: '-1' is not a number from 0 to 2147483647" },
              { "--timeout 1.5", "--timeout: '1.5" NO_TIME },
              { "--timeout 3d", "--timeout: '3d" NO_TIME },
              { "--timeout 8761h", "--timeout: '8761h" NO_TIME },
              { "--timeout 18446744073709552", "--timeout: '18446744073709552" NO_TIME },
          });
}
END_TEST

START_TEST(other_values)
{
    CHECK(check_refused,
          {
              { "--log-level all", "--log-level: 'all' is not one of error|warn|info|debug" },
              { "--log-level error|warn",
                "--log-level: 'error|warn' is not one of error|warn|info|debug" },
              { "--disk a,engine=", "--disk: engine: '' is not one of auto|io_uring|thread" },
              { "--disk a,format=qcow2", "--disk: format: 'qcow2' cannot be read; convert the "
                                         "image: qemu-img convert -O raw" },
              { "--disk a,ro=yes", "--disk: ro: 'yes' is neither on nor off" },
              { "--disk a,serial=123456789012345678901",
                "--disk: serial: '123456789012345678901' is longer than 20 characters" },
              { "--net tap,name=interface0123456",
                "--net tap: name: 'interface0123456' is longer than 15 characters" },
              { "--net user,hostfwd=8080-:80", "--net user: hostfwd: '8080-:80" NO_FORWARD },
              { "--net user,hostfwd=tcp::8080", "--net user: hostfwd: 'tcp::8080" NO_FORWARD },
              { "--net user,hostfwd=sctp::1-2", "--net user: hostfwd: 'sctp::1-2" NO_FORWARD },
              { "--net user,hostfwd=::0-2", "--net user: hostfwd: '::0-2" NO_FORWARD },
              { "--net user,hostfwd=::1-65536", "--net user: hostfwd: '::1-65536" NO_FORWARD },
              { "--net user,hostfwd=:1.2.3:1-2", "--net user: hostfwd: ':1.2.3:1-2" NO_FORWARD },
              { "--net user,hostfwd=::1-1.2.3.4:2",
                "--net user: hostfwd: '::1-1.2.3.4:2" NO_FORWARD },
              { "--net user,mac=52:54:00:12:34",
                "--net user: mac: '52:54:00:12:34' is not a NIC's MAC address, such as "
                "52:54:00:12:34:56" },
              { "--net tap,mac=01:00:5e:00:00:01",
                "--net tap: mac: '01:00:5e:00:00:01' is not a NIC's MAC address, such as "
                "52:54:00:12:34:56" },
          });
}
END_TEST

#define NO_TAG "needs a tag of 1 to 36 bytes (tag=NAME)"

START_TEST(contradicting_options_are_refused)
{
    CHECK(
        check_refused,
        {
            { "", "nothing to boot: kernel is missing (--kernel FILE; see minivmm --help)" },
            { "--net tap,fd=0,vhost=auto", "--net tap: vhost: 'auto' is neither on nor off" },
            { "--disk a,ro,throw-away --kernel k", "disk a: ro and throw-away exclude each other" },
            { "--disk a,max=1G --kernel k",
              "disk a: max is of throw-away; an image has its own size" },
            { "--net tap --kernel k", "net tap: needs either name or fd" },
            { "--net tap,fd=3,name=x --kernel k", "net tap: needs either name or fd" },
            { "--net tap,fd=3 --net user --net tap,fd=3 --kernel k",
              "net tap: another NIC has descriptor 3" },
            { "--net user,fd=3 --net user,fd=3 --kernel k",
              "net user: another NIC has descriptor 3" },
            { "--net user,fd=3,host-loopback --kernel k",
              "net user: hostfwd and host-loopback are of the minivmm-net behind fd; give them "
              "to that" },
            { "--kernel k --share //", "share //: " NO_TAG },
            { "--kernel k --share a/../", "share a/../: " NO_TAG },
            { "--kernel k --share ./", "share ./: " NO_TAG },
            { "--kernel k --share /0123456789012345678901234567890123456",
              "share /0123456789012345678901234567890123456: " NO_TAG },
            { "--kernel k --share d,tag=a --share e,tag=a",
              "share e: another share has the tag 'a' (use tag=NAME)" },
            { "--kernel k --share d --share e/d/",
              "share e/d/: another share has the tag 'd' (use tag=NAME)" },
            { "--kernel k --serial stdio --console stdio",
              "console and serial use the same input or output; change one" },
            { "--kernel k --serial fd=3 --console fd=3",
              "console and serial use the same input or output; change one" },
            { "--kernel k --serial file=a --console file=a,append",
              "console and serial use the same input or output; change one" },
        });
}
END_TEST

/* Configures a machine as a program would, with one item of each kind. */
static void describe_machine(struct config *config)
{
    struct port_config *port;

    ck_assert_int_eq(config_set_defaults(config), 0);
    config->kernel = "k";
    config_add_disk(config)->image = (struct block_options){ .path = "a" };
    config_add_disk(config)->image = (struct block_options){ .path = "b", .read_only = true };
    config_add_net(config, NET_USER)->user.network.host_loopback = true;
    config_add_net(config, NET_TAP)->tap.interface = "tap0";
    config_add_share(config)->directory = (struct share_options){ .path = "/srv/data/" };
    config->console.kind = CONSOLE_STDIO;
    port = config_add_port(config);
    port->name = "p";
    port->output = 1;
}

START_TEST(a_machine_without_a_command_line)
{
    struct config config;
    char text[4096] = "";

    describe_machine(&config);
    config_complete(&config);
    ck_assert_int_eq(config_check(&config), 0);
    describe(text, sizeof(text), &config);
    ck_assert_str_eq(text, " disk:a:0: disk:b:ro:0: user:loopback tap:tap0 serial:none"
                           " console:stdio");
    ck_assert_str_eq(config.shares->tag, "data");
    ck_assert_int_eq(config.ports->input, -1);
    config_finish(&config);
}
END_TEST

START_TEST(a_machine_needs_at_least_a_kernel)
{
    struct config config;

    ck_assert_int_eq(config_set_defaults(&config), 0);
    config_complete(&config);
    ck_assert_int_eq(config_check(&config), -EINVAL);
    config.kernel = "k";
    ck_assert_int_eq(config_check(&config), 0);
    ck_assert(config.nets && config.nets->implied && !config.nets->next);
    ck_assert_int_eq(config.serial.kind, CONSOLE_STDIO);
    config_finish(&config);
}
END_TEST

static void break_tap(struct config *config)
{
    config->nets->next->tap.fd = 3;
}

static void break_tag(struct config *config)
{
    struct share_config *share = config_add_share(config);

    share->directory.path = "/other";
    strcpy(share->tag, "data");
}

static void break_tag_of_root(struct config *config)
{
    config_add_share(config)->directory.path = "/";
}

static void break_port(struct config *config)
{
    config->ports->output = -1;
}

static void break_port_name(struct config *config)
{
    struct port_config *port = config_add_port(config);

    port->name = "p";
    port->input = 0;
}

static void break_console(struct config *config)
{
    config->serial = (struct console_config){ .kind = CONSOLE_STDIO, .fd = -1 };
}

static const struct {
    void (*apply)(struct config *config);
    const char *expected;
} breakages[] = {
    { break_tap, "net tap: needs either name or fd" },
    { break_tag, "share /other: another share has the tag 'data' (use tag=NAME)" },
    { break_tag_of_root, "share /: " NO_TAG },
    { break_port, "port p: needs a descriptor (fd=N)" },
    { break_port_name, "port p: another port has this name" },
    { break_console, "console and serial use the same input or output; change one" },
};

START_TEST(rules_are_checked_without_a_command_line)
{
    FILE *errors = capture(STDERR_FILENO);
    struct config config;
    char expected[256];

    describe_machine(&config);
    breakages[_i].apply(&config);
    config_complete(&config);
    ck_assert_int_eq(config_check(&config), -EINVAL);
    config_finish(&config);
    snprintf(expected, sizeof(expected), "minivmm: %s\n", breakages[_i].expected);
    ck_assert_str_eq(captured(errors), expected);
    fclose(errors);
}
END_TEST

START_TEST(ports)
{
    struct config config;

    ck_assert_int_eq(parse(&config, "--kernel k --port name=p,fd=5 --port name=q,fd=6"),
                     CONFIG_RUN);
    ck_assert_str_eq(config.ports->name, "p");
    ck_assert_int_eq(config.ports->input, 5);
    ck_assert_int_eq(config.ports->output, 5); /* the access mode decides later */
    ck_assert_str_eq(config.ports->next->name, "q");
    config_finish(&config);
}
END_TEST

START_TEST(values_keep_their_spaces)
{
    char kernel[] = "--kernel=a b", cmdline[] = "--cmdline", value[] = " x  y\t";
    char *words[] = { kernel, cmdline, value, NULL };
    struct config config;

    ck_assert_int_eq(parse_words(&config, words), CONFIG_RUN);
    ck_assert_str_eq(config.kernel, "a b");
    ck_assert_str_eq(config.cmdline, " x  y\t");
    config_finish(&config);
}
END_TEST

START_TEST(an_empty_argv_has_no_kernel)
{
    struct config config;
    char *argv[] = { NULL };

    ck_assert_int_eq(config_parse(&config, NULL, 0, argv), CONFIG_USAGE);
    config_finish(&config);
}
END_TEST

/* A terminal of 80 columns and 24 lines, the last of which is for the prompt. */
static void check_screen(const char *text)
{
    unsigned lines = 0;

    for (; *text; lines++) {
        size_t length = strcspn(text, "\n");

        ck_assert_msg(length <= 80, "%.*s", (int)length, text);
        text += length + 1;
    }
    ck_assert_uint_ge(lines, 15);
    ck_assert_uint_le(lines, 23);
}

START_TEST(help_fits_on_a_screen)
{
    FILE *out = capture(STDOUT_FILENO);
    struct config config;

    ck_assert_int_eq(parse(&config, "--help --no-such-option"), CONFIG_DONE);
    config_finish(&config);
    check_screen(captured(out));
}
END_TEST

START_TEST(help_of_run_fits_on_a_screen)
{
    char name[] = "run", help[] = "--help", *argv[] = { name, help, NULL };
    FILE *out = capture(STDOUT_FILENO);
    struct run_options run;

    ck_assert_int_eq(run_options_parse(&run, NULL, 2, argv), CONFIG_DONE);
    run_options_finish(&run);
    check_screen(captured(out));
}
END_TEST

START_TEST(help_fails_if_the_disk_is_full)
{
    struct config config;

    ck_assert_ptr_nonnull(freopen("/dev/full", "w", stdout));
    ck_assert_int_eq(parse(&config, "-h"), CONFIG_FAILED);
    config_finish(&config);
    _exit(0); /* exit() would fail to flush stdout */
}
END_TEST

/* After an error the old value must still be there: callers rely on that. */
START_TEST(failed_values_store_nothing)
{
    uint64_t number = 7;
    uint8_t mac[6] = { 1, 2, 3, 4, 5, 6 }, before[6];
    struct slirp_forward forward = { .host_port = 7 };
    unsigned choice = 7;

    memcpy(before, mac, sizeof(mac));
    ck_assert(!parse_size("99999999999999999999", &number));
    ck_assert(!parse_mac("02:00:00:00:00:0x", mac));
    ck_assert(!parse_forward("tcp::1-99999", &forward));
    ck_assert(!parse_choice("a|b", "c", &choice));
    ck_assert_uint_eq(number, 7);
    ck_assert_mem_eq(mac, before, sizeof(mac));
    ck_assert_uint_eq(forward.host_port, 7);
    ck_assert_uint_eq(choice, 7);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("config");
    TCase *tests = tcase_create("config");

    tcase_add_test(tests, options);
    tcase_add_test(tests, later_options_override);
    tcase_add_test(tests, disks);
    tcase_add_test(tests, shares);
    tcase_add_test(tests, owner_of_shared_files);
    tcase_add_test(tests, file_names_with_commas_and_equal_signs);
    tcase_add_test(tests, networks);
    tcase_add_test(tests, consoles);
    tcase_add_test(tests, words_that_are_no_options);
    tcase_add_test(tests, options_of_another_command_line);
    tcase_add_test(tests, options_where_a_value_is_missing);
    tcase_add_test(tests, unknown_words_are_refused);
    tcase_add_test(tests, missing_and_extra_values_are_refused);
    tcase_add_test(tests, numbers);
    tcase_add_test(tests, other_values);
    tcase_add_test(tests, contradicting_options_are_refused);
    tcase_add_test(tests, a_machine_without_a_command_line);
    tcase_add_test(tests, a_machine_needs_at_least_a_kernel);
    tcase_add_loop_test(tests, rules_are_checked_without_a_command_line, 0, ARRAY_SIZE(breakages));
    tcase_add_test(tests, ports);
    tcase_add_test(tests, values_keep_their_spaces);
    tcase_add_test(tests, an_empty_argv_has_no_kernel);
    tcase_add_test(tests, help_fits_on_a_screen);
    tcase_add_test(tests, help_of_run_fits_on_a_screen);
    tcase_add_test(tests, help_fails_if_the_disk_is_full);
    tcase_add_test(tests, failed_values_store_nothing);
    suite_add_tcase(suite, tests);
    return unit_run(suite);
}
