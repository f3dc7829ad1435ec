/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/unit/unit.h"
#include "vmm/core/base.h"
#include "vmm/run/agent.h"
#include "vmm/run/guest_file.h"
#include "vmm/run/kernel_log.h"
#include "vmm/run/mounts.h"
#include "vmm/run/options.h"
#include "vmm/run/outcome.h"
#include "vmm/run/report.h"
#include "vmm/run/supervisor.h"
#include "vmm/run/user.h"

static struct run_options options;
static char directory[] = "/tmp/minivmm-command-XXXXXX";

static void setup(void)
{
    ck_assert_ptr_nonnull(mkdtemp(directory));
    ck_assert_int_eq(chdir(directory), 0);
    ck_assert(getcwd(directory, sizeof(directory)));
}

static void teardown(void)
{
    char remove[64];

    run_options_finish(&options);
    snprintf(remove, sizeof(remove), "rm -r %s", directory);
    ck_assert_int_eq(chdir("/"), 0);
    ck_assert_int_eq(system(remove), 0);
}

static enum config_result parse_words(char **words)
{
    static char *argv[32]; /* the options point into it */
    int argc = 0;

    while ((argv[argc] = words[argc]))
        argc++;
    run_options_finish(&options);
    return run_options_parse(&options, NULL, argc, argv);
}

#define W(text)    ((char *)(text))
#define parse(...) parse_words((char *[]){ W("run"), __VA_ARGS__, NULL })
#define NO_WORDS   NULL

/* Options. */

START_TEST(all_kinds_of_options)
{
    ck_assert_int_eq(parse(W("--kernel"), W("a"), W("--kernel=b"), W("-m"), W("256M"), W("-j3"),
                           W("--net"), W("user"), W("--ro"), W("x"), W("--rw=y"), W("-v"),
                           W("--timeout"), W("2s"), W("make"), W("-j"), W("check")),
                     CONFIG_RUN);
    ck_assert_str_eq(options.kernels->text, "a");
    ck_assert_str_eq(options.kernels->next->text, "b");
    ck_assert_ptr_null(options.kernels->next->next);
    ck_assert_uint_eq(options.machine.memory, 256 * MIB);
    ck_assert_uint_eq(options.jobs, 3);
    ck_assert_int_eq(options.machine.nets->kind, NET_USER);
    ck_assert(!options.shares->writable && options.shares->next->writable);
    ck_assert(options.verbose);
    ck_assert_uint_eq(options.timeout_ms, 2000);
    ck_assert_str_eq(options.argv[0], "make");
    ck_assert_str_eq(options.argv[1], "-j");
    ck_assert_str_eq(options.argv[2], "check");
    ck_assert_ptr_null(options.argv[3]);
}
END_TEST

START_TEST(defaults)
{
    ck_assert_int_eq(parse(NO_WORDS), CONFIG_RUN);
    ck_assert_ptr_null(options.machine.nets);
    ck_assert_ptr_null(options.kernels);
    ck_assert_ptr_null(options.argv[0]);
    ck_assert_uint_eq(options.jobs, 1);
    ck_assert(options.machine.balloon);
    ck_assert_uint_gt(options.boot_timeout_ms, 0);
}
END_TEST

START_TEST(two_dashes_end_the_options)
{
    ck_assert_int_eq(parse(W("-v"), W("--"), W("-v"), W("--"), W("x")), CONFIG_RUN);
    ck_assert_str_eq(options.argv[0], "-v");
    ck_assert_str_eq(options.argv[1], "--");
    ck_assert_str_eq(options.argv[2], "x");
}
END_TEST

START_TEST(wrong_options)
{
    ck_assert_int_eq(parse(W("--serial"), W("none"), W("true")), CONFIG_USAGE);
    ck_assert_int_eq(parse(W("--env"), W("=x"), W("true")), CONFIG_USAGE);
    ck_assert_int_eq(parse(W("--jobs"), W("0"), W("true")), CONFIG_USAGE);
    ck_assert_int_eq(parse(W("--kernel")), CONFIG_USAGE);
    ck_assert_int_eq(parse(W("--root=")), CONFIG_USAGE);
    ck_assert_int_eq(parse(W("-vj2"), W("true")), CONFIG_USAGE);
}
END_TEST

static const char *const decided[] = {
    "--kernel=a",  "--modules=a",  "--root=a", "--ro=a",   "--rw=a",
    "--guarded",   "--memory=1G",  "--cpus=1", "--disk=a", "--net=user",
    "--cmdline=a", "--no-balloon", "--warm",
};

START_TEST(a_machine_with_a_name_is_decided)
{
    ck_assert_int_eq(parse(W("--from"), W("pg"), W("--user=a"), W("--cwd=/"), W("true")),
                     CONFIG_RUN);
    for (unsigned i = 0; i < ARRAY_SIZE(decided); i++)
        ck_assert_int_eq(parse(W("--from"), W("pg"), W(decided[i]), W("true")), CONFIG_USAGE);
    ck_assert_int_eq(parse(W("--from"), W("../pg"), W("true")), CONFIG_USAGE);
    ck_assert_int_eq(parse(W("--on-fork"), W("a"), W("true")), CONFIG_USAGE);
}
END_TEST

START_TEST(what_makes_a_machine_with_a_name)
{
    static char *const bad[][3] = { { W("pg"), W("--warm") },
                                    { W("pg"), W("--from=a") },
                                    { W("pg"), W("--kernel=a"), W("--kernel=b") } };
    char *good[] = { W("pg"), W("--on-fork"), W("a"), W("--root=a"), W("true"), NULL };

    run_options_finish(&options);
    ck_assert_int_eq(run_options_parse(&options, "pg", 5, good), CONFIG_RUN);
    ck_assert_str_eq(options.name, "pg");
    ck_assert_str_eq(options.on_fork, "a");
    ck_assert_uint_eq(options.machine.cpus, 1);
    for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
        char *argv[4] = { bad[i][0], bad[i][1], bad[i][2], NULL };

        run_options_finish(&options);
        ck_assert_int_eq(run_options_parse(&options, "pg", bad[i][2] ? 3 : 2, argv), CONFIG_USAGE);
    }
}
END_TEST

START_TEST(several_machines_share_a_disk_that_none_writes)
{
    ck_assert_int_eq(parse(W("--disk=a"), W("--no-balloon"), W("true")), CONFIG_RUN);
    ck_assert_str_eq(options.machine.disks->image.path, "a");
    ck_assert(!options.machine.balloon);
    ck_assert_int_eq(parse(W("--disk=a,ro,throw-away"), W("true")), CONFIG_USAGE);
    ck_assert_int_eq(parse(W("-j1"), W("--kernel=a"), W("--kernel=b"), W("--disk=a")), CONFIG_RUN);
    ck_assert_int_eq(parse(W("-j2"), W("--kernel=a"), W("--kernel=b"), W("--disk=a")),
                     CONFIG_USAGE);
    ck_assert_int_eq(parse(W("-j2"), W("--kernel=a"), W("--kernel=b"), W("--disk=a,ro"),
                           W("--disk=b,throw-away")),
                     CONFIG_RUN);
}
END_TEST

START_TEST(several_machines_cannot_share_a_tap_or_a_port)
{
    const char *const nets[] = { "user,hostfwd=::8080-:80", "tap,name=tap0", "tap,fd=7" };

    for (unsigned i = 0; i < ARRAY_SIZE(nets); i++) {
        ck_assert_int_eq(parse(W("-j2"), W("--kernel=a"), W("--kernel=b"), W("--net"), W(nets[i])),
                         CONFIG_USAGE);
        ck_assert_int_eq(parse(W("-j1"), W("--kernel=a"), W("--kernel=b"), W("--net"), W(nets[i])),
                         CONFIG_RUN);
        ck_assert_int_eq(parse(W("-j2"), W("--kernel=a"), W("--net"), W(nets[i])), CONFIG_RUN);
    }
    ck_assert_int_eq(parse(W("-j2"), W("--kernel=a"), W("--kernel=b"), W("--net=user")),
                     CONFIG_RUN);
}
END_TEST

/* Messages of the agent. */

START_TEST(agent_messages)
{
    struct agent_message m;

    ck_assert(agent_parse(&m, "812 ready"));
    ck_assert(m.kind == AGENT_READY && m.ms == 812);
    ck_assert(agent_parse(&m, "0 running"));
    ck_assert(m.kind == AGENT_RUNNING);
    ck_assert(agent_parse(&m, "1 exit 255"));
    ck_assert(m.kind == AGENT_EXIT && m.number == 255);
    ck_assert(agent_parse(&m, "1 signal 9"));
    ck_assert(m.kind == AGENT_SIGNAL && m.number == 9);
    ck_assert(agent_parse(&m, "1 failed 127 2"));
    ck_assert(m.kind == AGENT_FAILED && m.number == 127 && m.error == 2);
    ck_assert(agent_parse(&m, "1 error 22 mount /lower"));
    ck_assert(m.kind == AGENT_ERROR && m.error == 22);
    ck_assert_str_eq(m.text, "mount /lower");
    ck_assert(agent_parse(&m, "1 note 0 no such directory"));
    ck_assert_str_eq(m.text, "no such directory");
}
END_TEST

START_TEST(malformed_agent_messages)
{
    const char *const lines[] = { "",
                                  " ",
                                  "ready",
                                  "1",
                                  "1 ",
                                  "x ready",
                                  "1 ready 2",
                                  "-1 exit 0",
                                  "1 exit",
                                  "1 exit -1",
                                  "1 exit 256",
                                  "1 exit 1x",
                                  "1 exit 1 1",
                                  "1 signal 0",
                                  "1 signal 65",
                                  "1 failed 125 2",
                                  "1 failed 127",
                                  "1 error x",
                                  "1 exits 1",
                                  "99999999999999999999 ready",
                                  "1  ready",
                                  "1 failed 127 99999" };
    struct agent_message m = { .number = 77 };

    for (unsigned i = 0; i < ARRAY_SIZE(lines); i++)
        ck_assert_msg(!agent_parse(&m, lines[i]), "%s", lines[i]);
    ck_assert_int_eq(m.number, 77);
}
END_TEST

START_TEST(agent_bytes_become_lines)
{
    static char many[2 * AGENT_LINE_SIZE];
    struct agent_line line = { .used = 0 };
    const char *text;

    ck_assert_uint_eq(agent_take_line(&line, "1 ex", 4, &text), 4);
    ck_assert_ptr_null(text);
    ck_assert_uint_eq(agent_take_line(&line, "it 3\r\n2", 7, &text), 6);
    ck_assert_str_eq(text, "1 exit 3");
    ck_assert_uint_eq(agent_take_line(&line, "\033\n", 2, &text), 2);
    ck_assert_str_eq(text, "?");

    memset(many, 'x', sizeof(many));
    many[sizeof(many) - 1] = '\n';
    ck_assert_uint_eq(agent_take_line(&line, many, sizeof(many), &text), sizeof(many));
    ck_assert_uint_eq(strlen(text), AGENT_LINE_SIZE - 1);
}
END_TEST

/* The kernel's log and the outcome. */

static struct kernel_log log_of(const char *text)
{
    struct kernel_log log = { .count = 0 };

    kernel_log_add(&log, text, strlen(text));
    return log;
}

START_TEST(kernel_log_keeps_the_end)
{
    struct kernel_log log = { .count = 0 };
    char line[32];

    for (unsigned i = 0; i < 100; i++)
        kernel_log_add(&log, line, (size_t)snprintf(line, sizeof(line), "line %u\r\n\r\n", i));
    ck_assert_uint_eq(log.count, 100);
    ck_assert_str_eq(log.lines[99 % KERNEL_LOG_LINES], "line 99");
    ck_assert_str_eq(log.lines[70 % KERNEL_LOG_LINES], "line 70");
    ck_assert_str_eq(log.panic, "");
}
END_TEST

/* What the command wrote comes before the kernel's own. */
START_TEST(the_last_panic_explains)
{
    struct kernel_log log =
        log_of("[    1.5] Kernel panic - not syncing: Fatal exception, says the command\r\n"
               "[    1.6] Kernel panic - not syncing: sysrq triggered crash\r\n"
               "[    1.7] ---[ end Kernel panic - not syncing: sysrq triggered crash ]---\r\n");

    ck_assert_str_eq(log.panic, "sysrq triggered crash");
    ck_assert(!kernel_log_oops(&log));
}
END_TEST

static void expect_outcome(int wait_status, const char *log_text, enum outcome_kind kind,
                           int status)
{
    struct kernel_log log = log_of(log_text);
    struct outcome outcome = outcome_of_child(wait_status, true, &log);

    ck_assert_str_eq(outcome_word(outcome.kind), outcome_word(kind));
    ck_assert_int_eq(outcome_status(&outcome), status);
}

#define EXITED(status) ((status) << 8)

START_TEST(outcomes_of_children_that_end_by_themselves)
{
    expect_outcome(EXITED(0), "", OUTCOME_POWER_OFF, 117);
    expect_outcome(EXITED(120), "", OUTCOME_RESET, 120);
    expect_outcome(EXITED(122), "", OUTCOME_RESET, 120);
    expect_outcome(EXITED(121), "", OUTCOME_PANIC, 121);
    expect_outcome(EXITED(121), "Kernel panic - not syncing: x\n", OUTCOME_PANIC, 121);
    expect_outcome(EXITED(121), "Kernel panic - not syncing: Oops: Fatal exception\n", OUTCOME_OOPS,
                   119);
    expect_outcome(EXITED(0), "Kernel panic - not syncing: x\n", OUTCOME_POWER_OFF, 117);
    expect_outcome(EXITED(120), "Kernel panic - not syncing: x\n", OUTCOME_RESET, 120);
    expect_outcome(EXITED(122), "Kernel panic - not syncing: x\n", OUTCOME_RESET, 120);
    expect_outcome(EXITED(125), "", OUTCOME_FAILED, 125);
    expect_outcome(EXITED(123), "", OUTCOME_FAILED, 125);
    expect_outcome(EXITED(130), "", OUTCOME_INTERRUPTED, 130);
    expect_outcome(SIGSEGV, "", OUTCOME_FAILED, 125);
}
END_TEST

/* Before the command runs, only the agent powers off. */
START_TEST(a_power_off_before_the_command_is_a_failure)
{
    struct kernel_log log = log_of(
        "[    1.5] minivmm: load module overlay: error 8\r\n"
        "[    1.6] minivmm: this kernel has no virtio_mmio\r\n[    1.7] reboot: Power down\r\n");
    struct outcome outcome = outcome_of_child(EXITED(0), false, &log);

    ck_assert_int_eq(outcome_status(&outcome), 125);
    ck_assert_str_eq(outcome.text, "this kernel has no virtio_mmio");
    ck_assert(outcome_shows_kernel_log(&outcome));
    log = log_of("");
    outcome = outcome_of_child(EXITED(0), false, &log);
    ck_assert_int_eq(outcome_status(&outcome), 125);
    ck_assert_str_eq(outcome.text, "the guest powered off before the command ran");
}
END_TEST

START_TEST(statuses)
{
    ck_assert_int_eq(outcome_status(&(struct outcome){ .kind = OUTCOME_EXIT, .number = 7 }), 7);
    ck_assert_int_eq(outcome_status(&(struct outcome){ .kind = OUTCOME_SIGNAL, .number = 9 }), 137);
    ck_assert_int_eq(outcome_status(&(struct outcome){ .kind = OUTCOME_NOT_RUN, .number = 127 }),
                     127);
    ck_assert_int_eq(outcome_status(&(struct outcome){ .kind = OUTCOME_HANG }), 118);
    ck_assert_int_eq(outcome_status(&(struct outcome){ .kind = OUTCOME_TIMEOUT }), 124);
}
END_TEST

/* Mounts. */

START_TEST(below)
{
    ck_assert_str_eq(mounts_below("/a/b", "/a"), "/b");
    ck_assert_str_eq(mounts_below("/a", "/a"), "");
    ck_assert_str_eq(mounts_below("/a", "/"), "/a");
    ck_assert_str_eq(mounts_below("/", "/"), "");
    ck_assert_ptr_null(mounts_below("/ab", "/a"));
    ck_assert_ptr_null(mounts_below("/", "/a"));
}
END_TEST

static struct mounts mounts;

/* Runs mounts_find() in a tree with the directories root/in, out/deep and here. */
static int find_in(const char *where, char **words)
{
    int result;

    ck_assert_int_eq(system("mkdir -p root/in out/deep here; touch file; ln -sf out link"), 0);
    ck_assert_int_eq(parse_words(words), CONFIG_RUN);
    ck_assert_int_eq(chdir(where), 0);
    result = mounts_find(&mounts, &options);
    ck_assert_int_eq(chdir(directory), 0);
    return result;
}

#define find(...)             find_in(".", (char *[]){ W("run"), __VA_ARGS__, NULL })
#define find_from(where, ...) find_in(where, (char *[]){ W("run"), __VA_ARGS__, NULL })

static void expect_path(const char *path, const char *below_directory)
{
    ck_assert_ptr_nonnull(mounts_below(path, directory));
    ck_assert_str_eq(mounts_below(path, directory), below_directory);
}

START_TEST(a_share_has_the_same_path_as_on_the_host)
{
    ck_assert_int_eq(find(W("--rw"), W("link"), W("--ro=here")), 0);
    ck_assert_str_eq(mounts.root.host, "/");
    ck_assert_uint_eq(mounts.share_count, 2);
    expect_path(mounts.shares[0].guest, "/here");
    expect_path(mounts.shares[1].host, "/out");
    expect_path(mounts.shares[1].guest, "/out");
    ck_assert(!mounts.shares[0].writable && mounts.shares[1].writable);
    expect_path(mounts.cwd, "");
}
END_TEST

START_TEST(a_root_of_its_own)
{
    ck_assert_int_eq(find(W("--root=root"), W("--ro"), W("root/in"), W("--ro"), W("out")), 0);
    expect_path(mounts.root.host, "/root");
    ck_assert_str_eq(mounts.shares[0].guest, "/in");
    expect_path(mounts.shares[1].guest, "/out");
    ck_assert_str_eq(mounts.cwd, "/");
    ck_assert_int_eq(find_from("root/in", W("--root"), W("..")), 0);
    ck_assert_str_eq(mounts.cwd, "/in");
    ck_assert_int_eq(find_from("root", W("--root"), W(".")), 0);
    ck_assert_str_eq(mounts.cwd, "/");
}
END_TEST

START_TEST(a_share_with_another_path)
{
    ck_assert_int_eq(find_from("out/deep", W("--root=../../root"), W("--ro=..:/mnt//x/./y/")), 0);
    ck_assert_str_eq(mounts.shares[0].guest, "/mnt/x/y");
    ck_assert_str_eq(mounts.cwd, "/mnt/x/y/deep");
}
END_TEST

START_TEST(outer_shares_come_first)
{
    ck_assert_int_eq(find(W("--rw"), W("out/deep"), W("--ro"), W("out"), W("--ro"), W("here:/a/b"),
                          W("--ro"), W("here:/a")),
                     0);
    ck_assert_str_eq(mounts.shares[0].guest, "/a");
    ck_assert_str_eq(mounts.shares[1].guest, "/a/b");
    expect_path(mounts.shares[2].guest, "/out");
    expect_path(mounts.shares[3].guest, "/out/deep");
}
END_TEST

START_TEST(shares_that_contradict)
{
    ck_assert_int_lt(find(W("--rw"), W("out"), W("--ro"), W("out/deep")), 0);
    ck_assert_int_lt(find(W("--rw"), W("out"), W("--ro"), W("out:/b")), 0);
    ck_assert_int_lt(find(W("--rw"), W("out:/a"), W("--rw"), W("here:/a/")), 0);
    ck_assert_int_lt(find(W("--rw"), W("out:/")), 0);
    ck_assert_int_lt(find(W("--rw"), W("out:/a/../b")), 0);
}
END_TEST

/* "a" is a directory of the guest's root, to which a link leads. */
START_TEST(shares_at_a_link)
{
    ck_assert_int_eq(system("mkdir -p root/a; ln -s /a root/b"), 0);
    ck_assert_int_lt(find(W("--root=root"), W("--ro"), W("out:/a/x"), W("--ro"), W("here:/b/x")),
                     0);
    ck_assert_int_lt(find(W("--root=root"), W("--ro"), W("out:/a"), W("--ro"), W("here:/b")), 0);
    ck_assert_int_eq(find(W("--root=root"), W("--ro"), W("out/deep:/a/x/y"), W("--ro"),
                          W("here:/b/x"), W("--ro"), W("here:/b/new")),
                     0);
    ck_assert_str_eq(mounts.shares[0].guest, "/a/new");
    ck_assert_str_eq(mounts.shares[1].guest, "/a/x");
    ck_assert_str_eq(mounts.shares[2].guest, "/a/x/y");
    ck_assert_int_eq(find_from("out/deep", W("--root=../../root"), W("--ro=..:/b")), 0);
    ck_assert_str_eq(mounts.cwd, "/a/deep");
}
END_TEST

/* A link of a share is the guest's to follow, and may lead anywhere there. */
START_TEST(shares_behind_a_link_of_a_share)
{
    ck_assert_int_eq(
        system("mkdir -p root/a/deep out/real; ln -s /etc out/away; ln -s real out/near;"
               "ln -s /etc root/a/deep/real"),
        0);
    ck_assert_int_eq(
        find(W("--root=root"), W("--ro"), W("out:/x"), W("--ro"), W("here:/x/real/new")), 0);
    ck_assert_str_eq(mounts.shares[1].guest, "/x/real/new");
    ck_assert_int_lt(
        find(W("--root=root"), W("--ro"), W("out:/x"), W("--ro"), W("here:/x/away/new")), 0);
    ck_assert_int_lt(find(W("--root=root"), W("--ro"), W("out:/x"), W("--ro"), W("here:/x/near")),
                     0);
    /* What the share covers is not looked at. */
    ck_assert_int_eq(
        find(W("--root=root"), W("--ro"), W("out:/a/deep"), W("--ro"), W("here:/a/deep/real/new")),
        0);
    ck_assert_str_eq(mounts.shares[1].guest, "/a/deep/real/new");
}
END_TEST

START_TEST(no_such_directories)
{
    ck_assert_int_lt(find(W("--rw"), W("nowhere")), 0);
    ck_assert_int_lt(find(W("--ro"), W("file")), 0);
    ck_assert_int_lt(find(W("--root"), W("file")), 0);
    ck_assert_int_lt(find(W("--root"), W("nowhere")), 0);
    ck_assert_int_lt(find(W("--cwd"), W("here")), 0);
    ck_assert_int_eq(find(W("--cwd"), W("/here/")), 0);
    ck_assert_str_eq(mounts.cwd, "/here");
}
END_TEST

/* As it is read for a machine with a name, whose mounts are not looked for. */
START_TEST(a_directory_of_the_guest)
{
    const char *cwd = "";

    ck_assert_int_eq(parse(W("--from=pg"), W("true")), CONFIG_RUN);
    ck_assert_int_eq(mounts_read_cwd(&cwd, &options), 0);
    ck_assert_ptr_null(cwd);
    ck_assert_int_eq(parse(W("--from=pg"), W("--cwd=/a//b/"), W("true")), CONFIG_RUN);
    ck_assert_int_eq(mounts_read_cwd(&cwd, &options), 0);
    ck_assert_str_eq(cwd, "/a/b");
    ck_assert_int_eq(parse(W("--from=pg"), W("--cwd=a"), W("true")), CONFIG_RUN);
    ck_assert_int_eq(mounts_read_cwd(&cwd, &options), -EINVAL);
    ck_assert_int_eq(parse(W("--from=pg"), W("--cwd=/a/.."), W("true")), CONFIG_RUN);
    ck_assert_int_eq(mounts_read_cwd(&cwd, &options), -EINVAL);
}
END_TEST

/* The strings of a list that ends with NULL, each followed by a space. */
static const char *sorted(const char **list)
{
    static char text[1024];

    *text = '\0';
    for (unsigned count = 0; list[count]; count++)
        for (unsigned i = count; i > 0 && strcmp(list[i - 1], list[i]) > 0; i--) {
            const char *later = list[i - 1];

            list[i - 1] = list[i];
            list[i] = later;
        }
    for (; *list; list++)
        snprintf(text + strlen(text), sizeof(text) - strlen(text), "%s ", *list);
    return text;
}

/* Where a command must not start in another directory than the current one. */
static const struct {
    const char *where, *words[5];
    const char *cwd; /* below `directory`, or absolute if it starts with "="; NULL: refused */
} currents[] = {
    { "here", { NULL }, "/here" },
    { "here", { "--root=../root" }, "=/" }, /* as with chroot(8) */
    { "here", { "--root=../root", "--rw=../out" }, NULL },
    { "here", { "--root=../root", "--rw=../out", "--cwd=/" }, "=/" },
    { "here", { "--root=../root", "--rw=." }, "/here" },
    /* Another share is on top of it. */
    { "root/in", { "--root=..", "--rw=../../out:/in" }, NULL },
    { "root/in", { "--root=..", "--ro=.:/x", "--rw=../../out:/in" }, "=/x" },
    { "out/deep", { "--rw=..:/x", "--ro=../../here:/x/deep" }, "/out/deep" },
    { "out/deep", { "--root=../../root", "--rw=..:/x", "--ro=../../here:/x/deep" }, NULL },
    /* The guest has these itself. */
    { "/proc/self", { NULL }, NULL },
    { "/dev", { NULL }, NULL },
    { "/dev/shm", { "--rw=/dev/shm" }, "=/dev/shm" },
    { "/run", { NULL }, NULL },
    { "/sys", { "--cwd=/sys" }, "=/sys" },
};

START_TEST(the_current_directory_or_none)
{
    char *words[8] = { W("run") };
    const char *wanted = currents[_i].cwd;

    for (unsigned i = 0; currents[_i].words[i]; i++)
        words[i + 1] = W(currents[_i].words[i]);
    ck_assert_int_eq(find_in(currents[_i].where, words), (wanted ? 0 : -ENOENT));
    if (wanted && *wanted == '=')
        ck_assert_str_eq(mounts.cwd, wanted + 1);
    else if (wanted)
        expect_path(mounts.cwd, wanted);
}
END_TEST

START_TEST(a_current_directory_that_was_deleted)
{
    ck_assert_int_eq(mkdir("gone", 0755) | parse(W("x")), 0);
    ck_assert_int_eq(chdir("gone") | rmdir("../gone"), 0);
    ck_assert_int_eq(mounts_find(&mounts, &options), -ENOENT);
    ck_assert_int_eq(parse(W("--cwd=/"), W("x")), CONFIG_RUN);
    ck_assert_int_eq(mounts_find(&mounts, &options), 0);
    ck_assert_int_eq(chdir(directory), 0);
}
END_TEST

START_TEST(programs_in_run_are_shown)
{
    ck_assert_int_eq(system("mkdir -p root/run/systemd root/run/media/me root/run/wrappers"
                            " && touch root/run/some.pid && cd root/run && ln -s /store/a x"
                            " && ln -s /run/systemd y && ln -s ../store z && ln -s systemd w"
                            " && ln -s /run/old current-system"),
                     0);
    ck_assert_int_eq(find(W("--root=root")), 0);
    ck_assert_str_eq(sorted(mounts.run), "current-system media wrappers x z ");
    ck_assert_int_eq(find_from("root/run/media/me", W("--root=../../.."), W("--rw=.:/w")), 0);
    ck_assert_str_eq(mounts.cwd, "/w");
    ck_assert_int_eq(find_from("root/run/media/me", W("--root=../../..")), 0);
    ck_assert_str_eq(mounts.cwd, "/run/media/me");
    ck_assert_int_eq(system("rm -r root/run"), 0);
    ck_assert_int_eq(find(W("--root=root")), 0);
    ck_assert_str_eq(sorted(mounts.run), "");
}
END_TEST

/* Variables. */

static bool has(const char *const *environment, const char *wanted)
{
    for (; *environment; environment++)
        if (!strcmp(*environment, wanted))
            return true;
    return false;
}

START_TEST(variables)
{
    const struct user user = { .name = "me", .home = "/home/me" };
    const char *const *environment;

    clearenv();
    ck_assert_int_eq(setenv("SECRET", "x", 1) | setenv("CHOSEN", "y=z", 1) |
                         setenv("TERM", "dumb", 1) | setenv("HOME", "/", 1),
                     0);
    ck_assert_int_eq(parse(W("--env"), W("CHOSEN"), W("--env"), W("MISSING"), W("--env"),
                           W("TERM=vt100"), W("--env=EMPTY=")),
                     CONFIG_RUN);
    environment = user_environment(&options, &user);
    ck_assert(has(environment, "CHOSEN=y=z"));
    ck_assert(has(environment, "TERM=vt100"));
    ck_assert(has(environment, "EMPTY="));
    ck_assert(has(environment, "HOME=/home/me"));
    ck_assert(has(environment, "USER=me") && has(environment, "LOGNAME=me"));
    ck_assert(!strncmp(environment[0], "PATH=/usr/local/sbin:", 21));
    for (; *environment; environment++)
        ck_assert(strncmp(*environment, "SECRET", 6) != 0 && strncmp(*environment, "MISS", 4) != 0);
}
END_TEST

/* Reports. */

static void expect_report(void (*report)(FILE *file, const struct report *reports, unsigned count),
                          const struct report *reports, unsigned count, const char *wanted)
{
    char *text;
    size_t size;
    FILE *file = open_memstream(&text, &size);

    report(file, reports, count);
    ck_assert_int_eq(fclose(file), 0);
    ck_assert_str_eq(text, wanted);
    free(text);
}

static const struct report two[] = {
    { .kernel = "/boot/a\"\n",
      .version = "6.1",
      .outcome = { .kind = OUTCOME_EXIT, .number = 3 },
      .times = { 10, 800, 850, 1260 } },
    { .kernel = "b",
      .version = "5.10.0-1",
      .outcome = { .kind = OUTCOME_PANIC, .text = "oh" },
      .times = { -1, -1, -1, 71000 } },
};

START_TEST(json)
{
    expect_report(report_json, two, 1,
                  "{\"kernel\": \"/boot/a\\\"\\u000a\", \"version\": \"6.1\", "
                  "\"outcome\": \"exit\", \"status\": 3, \"exit\": 3, \"signal\": null, "
                  "\"panic\": null, \"message\": null, \"ms\": {\"start\": 0, \"kernel\": 10, "
                  "\"init\": 800, \"command\": 850, \"end\": 1260}}\n");
    expect_report(report_json, two + 1, 1,
                  "{\"kernel\": \"b\", \"version\": \"5.10.0-1\", "
                  "\"outcome\": \"panic\", \"status\": 121, \"exit\": null, \"signal\": null, "
                  "\"panic\": \"oh\", \"message\": null, \"ms\": {\"start\": 0, \"kernel\": null, "
                  "\"init\": null, \"command\": null, \"end\": 71000}}\n");
}
END_TEST

START_TEST(json_of_a_refusal)
{
    const struct report refused = { .outcome = { .kind = OUTCOME_FAILED, .text = "no kernel" },
                                    .times = { -1, -1, -1, -1 } };

    expect_report(report_json, &refused, 1,
                  "{\"kernel\": null, \"version\": null, \"outcome\": \"failed\", "
                  "\"status\": 125, \"exit\": null, \"signal\": null, \"panic\": null, "
                  "\"message\": \"no kernel\", \"ms\": {\"start\": 0, \"kernel\": null, "
                  "\"init\": null, \"command\": null, \"end\": null}}\n");
}
END_TEST

/* Each is refused at another stage; the report has the same message as stderr. */
static const struct {
    const char *words[3], *wanted;
} refusals[] = {
    { { "--bogus" }, "\"message\": \"unknown option '--bogus' (see minivmm run --help)\"" },
    { { "--stats" },
      "\"message\": \"'--stats' is an option of minivmm, not of minivmm run (see minivmm run "
      "--help)\"" },
    { { "--kernel", "missing", "x" }, "\"message\": \"open missing: No such file or directory\"" },
    { { "--kernel=a", "--root=missing", "x" },
      "\"message\": \"--root missing: No such file or directory\"" },
    { { "--kernel=a", "--kernel=b", "--bogus" }, "},\n {\"kernel\": \"b\"" },
};

START_TEST(refusals_are_reported)
{
    char name[] = "run", option[] = "--json=report", text[2048] = "", words[3][32];
    char *argv[] = { name, option, words[0], words[1], words[2], NULL };
    FILE *file;

    for (unsigned i = 0; i < 3; i++)
        snprintf(words[i], sizeof(words[i]), "%s",
                 refusals[_i].words[i] ? refusals[_i].words[i] : "x");
    ck_assert_int_eq(supervisor_main(5, argv), 125);
    ck_assert_ptr_nonnull(file = fopen("report", "r"));
    ck_assert_uint_gt(fread(text, 1, sizeof(text) - 1, file), 0);
    fclose(file);
    ck_assert_ptr_nonnull(strstr(text, "\"outcome\": \"failed\", \"status\": 125"));
    ck_assert_msg(strstr(text, refusals[_i].wanted), "%s", text);
}
END_TEST

static const char *const unwritable[][2] = {
    { "--json=no/report", "minivmm: --json: open no/report: No such file or directory\n" },
    { "--json=/dev/full", "minivmm: --json: write /dev/full: No space left on device\n" },
};

START_TEST(a_report_that_cannot_be_written)
{
    char *argv[] = {
        W("run"), W(unwritable[_i][0]), W("--root=no"), W("--kernel=a"), W("x"), NULL
    };
    char printed[512] = "";

    ck_assert_ptr_nonnull(freopen("errors", "w+", stderr));
    ck_assert_int_eq(supervisor_main(5, argv), 125);
    ck_assert_int_gt(pread(STDERR_FILENO, printed, sizeof(printed) - 1, 0), 0);
    ck_assert_ptr_nonnull(strstr(printed, unwritable[_i][1]));
}
END_TEST

START_TEST(table)
{
    expect_report(report_table, two, 2,
                  "kernel    seconds  result\n"
                  "6.1           1.2  exit 3\n"
                  "5.10.0-1     71.0  panic: oh\n");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("run");
    TCase *tests = tcase_create("run");

    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, all_kinds_of_options);
    tcase_add_test(tests, defaults);
    tcase_add_test(tests, two_dashes_end_the_options);
    tcase_add_test(tests, wrong_options);
    tcase_add_test(tests, a_machine_with_a_name_is_decided);
    tcase_add_test(tests, what_makes_a_machine_with_a_name);
    tcase_add_test(tests, several_machines_share_a_disk_that_none_writes);
    tcase_add_test(tests, several_machines_cannot_share_a_tap_or_a_port);
    tcase_add_test(tests, agent_messages);
    tcase_add_test(tests, malformed_agent_messages);
    tcase_add_test(tests, agent_bytes_become_lines);
    tcase_add_test(tests, kernel_log_keeps_the_end);
    tcase_add_test(tests, the_last_panic_explains);
    tcase_add_test(tests, outcomes_of_children_that_end_by_themselves);
    tcase_add_test(tests, a_power_off_before_the_command_is_a_failure);
    tcase_add_test(tests, statuses);
    tcase_add_test(tests, below);
    tcase_add_test(tests, a_share_has_the_same_path_as_on_the_host);
    tcase_add_test(tests, a_root_of_its_own);
    tcase_add_test(tests, a_share_with_another_path);
    tcase_add_test(tests, outer_shares_come_first);
    tcase_add_test(tests, shares_that_contradict);
    tcase_add_test(tests, no_such_directories);
    tcase_add_test(tests, a_directory_of_the_guest);
    tcase_add_loop_test(tests, the_current_directory_or_none, 0, ARRAY_SIZE(currents));
    tcase_add_test(tests, a_current_directory_that_was_deleted);
    if (guest_file_open("/", "/", O_DIRECTORY) >= 0) {
        tcase_add_test(tests, programs_in_run_are_shown);
        tcase_add_test(tests, shares_at_a_link);
        tcase_add_test(tests, shares_behind_a_link_of_a_share);
    } else {
        puts("# what is below a root of its own needs openat2()");
    }
    tcase_add_test(tests, variables);
    tcase_add_test(tests, json);
    tcase_add_test(tests, json_of_a_refusal);
    tcase_add_loop_test(tests, refusals_are_reported, 0, ARRAY_SIZE(refusals));
    tcase_add_loop_test(tests, a_report_that_cannot_be_written, 0, ARRAY_SIZE(unwritable));
    tcase_add_test(tests, table);
    suite_add_tcase(suite, tests);
    return unit_run(suite);
}
