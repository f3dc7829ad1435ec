/* SPDX-License-Identifier: MIT */

/* Parts of the guest's init, run as processes of the host. */
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "firmware/init/clock.h"
#include "firmware/init/job_read.h"
#include "firmware/init/message.h"
#include "firmware/init/pump.h"
#include "firmware/init/spawn.h"
#include "firmware/init/sys.h"
#include "tests/unit/host.h"
#include "tests/unit/tree.h"
#include "tests/unit/unit.h"
#include "vmm/core/base.h"

static struct timespec set_clock; /* what the init set it to; this host's is left alone */

/* In the guest this is in start.S. */
long sys_call(long number, long a, long b, long c, long d, long e, long f)
{
    long result;

    if (number == SYS_clock_settime) {
        ck_assert_int_eq(a, CLOCK_REALTIME);
        set_clock = *(const struct timespec *)b;
        return 0;
    }
    result = syscall(number, a, b, c, d, e, f);

    return result < 0 ? -errno : result;
}

static struct host_pipe port, in, out;
static struct pump pump;

static void set_up(void)
{
    port = host_pipe();
    in = host_pipe();
    out = host_pipe();
    sys_set_flags(in.reader, O_NONBLOCK);
    sys_set_flags(out.writer, O_NONBLOCK);
    pump_init(&pump, in.reader, out.writer);
    signal(SIGPIPE, SIG_IGN); /* as in the first process of a guest */
}

static void set_up_commands(void)
{
    if (geteuid() != 0)
        unit_skip("setuid() and setgroups() need root");
    set_up();
}

/* One turn of the init's loop; false: there was nothing to do. */
static bool turn(void)
{
    const struct timespec now = { 0 };
    struct pollfd set[2];
    int events;

    pump_prepare(&pump, set);
    events = sys_poll(set, 2, &now);
    pump_run(&pump, set);
    return events > 0;
}

/* Turns the loop until there is nothing to do. */
static void turn_all(void)
{
    for (unsigned turns = 0; turn(); turns++)
        ck_assert_uint_lt(turns, 100000); /* it would never sleep */
}

START_TEST(pump_copies_everything_and_ends)
{
    const size_t size = 300000; /* more than all pipes and buffers hold */
    uint8_t bytes[4096];
    size_t written = 0, seen = 0;
    ssize_t n;

    sys_set_flags(in.writer, O_NONBLOCK);
    sys_set_flags(out.reader, O_NONBLOCK);
    while (seen < size) {
        size_t piece = size - written < sizeof(bytes) ? size - written : sizeof(bytes);

        host_fill(bytes, written, piece);
        n = write(in.writer, bytes, piece);
        written += n > 0 ? (size_t)n : 0;
        if (n > 0)
            continue; /* the pipe must be full whenever the loop turns */
        turn_all();
        n = read(out.reader, bytes, 1000);
        for (ssize_t i = 0; i < n; i++)
            ck_assert_uint_eq(bytes[i], host_byte(seen++));
        if (written == size && in.writer >= 0) {
            close(in.writer);
            in.writer = -1;
        }
    }
    turn_all();
    ck_assert_int_eq(pump.from, -1);
    ck_assert_int_eq(pump.to, -1);
    ck_assert_int_eq(read(out.reader, bytes, 1), 0);
}
END_TEST

START_TEST(pump_ends_when_nobody_reads)
{
    turn_all();
    ck_assert_int_ge(pump.from, 0);
    close(out.reader);
    turn_all(); /* with nothing to copy */
    ck_assert_int_eq(pump.from, -1);
    ck_assert_int_lt(write(in.writer, "x", 1), 0);
    ck_assert_int_eq(errno, EPIPE);
}
END_TEST

START_TEST(pump_ends_when_nobody_reads_any_more)
{
    static const uint8_t bytes[60000];

    for (unsigned i = 0; i < 3; i++) {
        ck_assert_int_eq(write(in.writer, bytes, sizeof(bytes)), sizeof(bytes));
        if (i < 2)
            turn_all();
    }
    close(out.reader);
    turn_all();
    ck_assert_int_eq(pump.to, -1);
}
END_TEST

/* What is in the pipe when the command ends is still for the port; what comes later is not. */
START_TEST(pump_set_aside_when_writers_live_on)
{
    static uint8_t bytes[60000], seen[sizeof(bytes) + 1];
    char byte;

    host_fill(bytes, 0, sizeof(bytes));
    ck_assert_int_eq(write(in.writer, bytes, sizeof(bytes)), sizeof(bytes));
    pump_set_aside(&pump);
    ck_assert_int_eq(write(in.writer, "later", 5), 5);
    turn_all();
    ck_assert_int_eq(read(out.reader, seen, sizeof(seen)), sizeof(bytes));
    ck_assert_mem_eq(seen, bytes, sizeof(bytes));
    ck_assert_int_eq(read(out.reader, &byte, 1), 0);
    ck_assert_int_ge(pump.from, 0);
    close(in.writer);
    turn_all();
    ck_assert_int_eq(pump.from, -1);
}
END_TEST

START_TEST(pump_set_aside_when_no_writer_lives)
{
    close(in.writer);
    pump_set_aside(&pump);
    ck_assert_int_eq(pump.from, -1);
    ck_assert_int_eq(pump.to, -1);
    pump_set_aside(&pump);
}
END_TEST

/* The messages of the init, without the first one's time. */
static const char *messages(void)
{
    static char text[1024];
    ssize_t n;

    close(port.writer);
    n = read(port.reader, text, sizeof(text) - 1);
    ck_assert_int_gt(n, 0);
    text[n] = '\0';
    ck_assert(strchr("0123456789", text[0]));
    return strchr(text, ' ') + 1;
}

static const char *no_words[] = { NULL };
static const char **job_groups = no_words;

/* Runs a command with its output in `out`; returns its exit status, -1 if it did not run. */
static int run(const char **argv, const char **env, const char *cwd)
{
    const struct job job = {
        .lists = { [JOB_ARG] = argv, [JOB_ENV] = env, [JOB_GROUP] = job_groups }, .cwd = cwd
    };
    const struct message_sink sink = { .port = port.writer, .log = -1 };
    const int streams[3] = { in.reader, out.writer, out.writer };
    int status, pid = spawn_command(&sink, &job, streams, -1);

    close(out.writer);
    if (pid == 0)
        return -1;
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void expect_output(const char *wanted)
{
    char text[4096] = "";
    size_t used = 0;
    ssize_t n;

    while ((n = read(out.reader, text + used, sizeof(text) - 1 - used)) > 0)
        used += (size_t)n;
    ck_assert_str_eq(text, wanted);
}

START_TEST(command_gets_its_words_environment_and_directory)
{
    const char *argv[] = { "/bin/sh", "-c", "pwd; echo \"$0|$1|$A\"; env | grep -c .; exit 7",
                           "a b",     "",   NULL };
    const char *env[] = { "A=1 2", "PATH=/usr/bin:/bin", "PWD=/", NULL };

    ck_assert_int_eq(run(argv, env, "/usr"), 7);
    expect_output("/usr\na b||1 2\n3\n");
}
END_TEST

START_TEST(command_has_a_session_and_default_signals)
{
    const char *argv[] = { "/bin/sh", "-c",
                           "read -r p a b c d sid rest </proc/self/stat; [ $sid = $$ ] || exit 1;"
                           "grep -q 'SigBlk:.0*$' /proc/self/status || exit 2;"
                           "echo good",
                           NULL };
    const uint64_t child = 1ull << (SIGCHLD - 1);

    ck_assert_int_eq(sys_mask_signals(SIG_BLOCK, child), 0);
    ck_assert_int_eq(run(argv, no_words, "/"), 0);
    expect_output("good\n");
}
END_TEST

START_TEST(command_that_does_not_exist)
{
    const char *argv[] = { _i ? "/nowhere/at/all" : "no-such-command", NULL };

    ck_assert_int_eq(run(argv, no_words, "/"), -1);
    ck_assert_str_eq(messages(), "failed 127 2\n");
}
END_TEST

START_TEST(command_without_a_name)
{
    const char *argv[] = { "", NULL };

    ck_assert_int_eq(run(argv, no_words, "/"), -1);
    ck_assert_str_eq(messages(), "failed 127 2\n");
}
END_TEST

START_TEST(command_that_cannot_be_executed)
{
    const char *argv[] = { "tool", NULL };
    char tree[64], path[128];
    const char *env[] = { path, NULL };

    tree_make(tree);
    tree_put_text(tree, "tool", "text\n");
    snprintf(path, sizeof(path), "PATH=/nowhere:%s:/usr/bin", tree);
    ck_assert_int_eq(run(argv, env, "/"), -1);
    ck_assert_str_eq(messages(), "failed 126 13\n");
    tree_remove(tree);
}
END_TEST

START_TEST(path_is_searched_in_order)
{
    const char *argv[] = { "tool", NULL };
    char tree[64], path[256];
    const char *env[] = { "PATHS=/", path, "PATH=/usr/bin", NULL };

    tree_make(tree);
    tree_put_text(tree, "a/tool", "#!/bin/sh\necho a\n"); /* not executable */
    tree_put_text(tree, "b/tool", "#!/bin/sh\necho b\n");
    tree_put_text(tree, "c/tool", "#!/bin/sh\necho c\n");
    snprintf(path, sizeof(path), "%s/b/tool", tree);
    ck_assert_int_eq(chmod(path, 0755), 0);
    snprintf(path, sizeof(path), "%s/c/tool", tree);
    ck_assert_int_eq(chmod(path, 0755), 0);
    snprintf(path, sizeof(path), "PATH=/nowhere:%s/a:%s/b:%s/c", tree, tree, tree);
    ck_assert_int_eq(run(argv, env, "/"), 0);
    expect_output("b\n");
    tree_remove(tree);
}
END_TEST

START_TEST(directory_that_does_not_exist)
{
    const char *argv[] = { "/bin/pwd", NULL };

    ck_assert_int_eq(run(argv, no_words, "/nowhere\n/at all"), -1);
    expect_output("");
    ck_assert_str_eq(messages(), "error 2 name a directory of the guest with --cwd, the command "
                                 "cannot start in /nowhere?/at all\n");
}
END_TEST

/* More than any kernel takes: the command must not run with some of them. */
START_TEST(groups_that_cannot_be_set)
{
    static const char *groups[65538];
    const char *argv[] = { "/bin/pwd", NULL };

    for (unsigned i = 0; i < 65537; i++)
        groups[i] = "7";
    job_groups = groups;
    ck_assert_int_eq(run(argv, no_words, "/"), -1);
    ck_assert_str_eq(messages(), "error 22 set the command's user and groups\n");
}
END_TEST

START_TEST(many_groups)
{
    static const char *groups[501];
    const char *argv[] = { "/bin/sh", "-c", "set -- $(id -G); echo $#", NULL };
    static char numbers[500][8];

    for (unsigned i = 0; i < 500; i++) {
        snprintf(numbers[i], sizeof(numbers[i]), "%u", 5000 + i);
        groups[i] = numbers[i];
    }
    job_groups = groups;
    ck_assert_int_eq(run(argv, no_words, "/"), 0);
    expect_output("501\n");
}
END_TEST

START_TEST(script_without_an_interpreter)
{
    const char *argv[] = { "tool", "a b", "-c", NULL };
    char tree[64], path[256];
    const char *env[] = { path, NULL };

    tree_make(tree);
    tree_put_text(tree, "tool", _i == 0 ? "echo \"$0|$1|$2|$#\"; exit 5\n" : "");
    snprintf(path, sizeof(path), "%s/tool", tree);
    ck_assert_int_eq(chmod(path, 0755), 0);
    snprintf(path, sizeof(path), "PATH=/nowhere:%s", tree);
    ck_assert_int_eq(run(argv, env, "/"), _i == 0 ? 5 : 0);
    snprintf(path, sizeof(path), "%s/tool|a b|-c|2\n", tree);
    expect_output(_i == 0 ? path : "");
    tree_remove(tree);
}
END_TEST

START_TEST(program_for_another_machine)
{
    static const char program[] = "\x7f\x45LF\2\1\1\0 made up\nexit 5\n";
    char tree[64], path[256];
    const char *argv[] = { path, NULL };

    tree_make(tree);
    tree_put(tree, "tool", program, sizeof(program));
    snprintf(path, sizeof(path), "%s/tool", tree);
    ck_assert_int_eq(chmod(path, 0755), 0);
    ck_assert_int_eq(run(argv, no_words, "/"), -1);
    ck_assert_str_eq(messages(), "failed 126 8\n");
    tree_remove(tree);
}
END_TEST

/* Plays the supervisor in a child: answers each question with the next of `answers`. */
static struct message_sink answering(const char *const answers[], unsigned first_ms)
{
    int ends[2];

    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    if (fork() == 0) {
        FILE *stream = fdopen(ends[1], "r+");
        char line[64];

        close(ends[0]);
        for (; *answers && fgets(line, sizeof(line), stream); answers++) {
            if (!strstr(line, " clock\n"))
                _exit(1);
            usleep(1000 * first_ms);
            first_ms = 0;
            fputs(*answers, stream);
            fflush(stream);
        }
        _exit(0);
    }
    close(ends[1]);
    return (struct message_sink){ .port = ends[0], .log = -1 };
}

/* Seconds since 1700000000. */
static double clock_seconds(void)
{
    return (double)(set_clock.tv_sec - 1700000000) + (double)set_clock.tv_nsec / 1e9;
}

START_TEST(clock_is_ahead_by_the_time_of_the_answer)
{
    const char *const answers[] = {
        "time 1700000000 999999000\n", "time 1700000000 999999000\n", "time 1700000000 999999000\n",
        "time 1700000000 999999000\n", "time 1700000000 999999000\n", "time 1700000000 999999000\n",
        "time 1700000000 999999000\n", "time 1700000000 999999000\n", NULL
    };
    const struct message_sink sink = answering(answers, 0);
    double before = host_seconds(), after;

    clock_set(&sink);
    after = host_seconds();
    ck_assert_int_lt(set_clock.tv_nsec, 1000000000);
    ck_assert_double_ge(clock_seconds(), 0.999999);
    ck_assert_double_le(clock_seconds(), 0.999999 + after - before + 1e-6);
}
END_TEST

START_TEST(clock_is_set_by_the_fastest_answer)
{
    const char *const answers[] = {
        "time 1600000000 0\n", "time 1700000000 0\n", "time 1700000000 0\n",
        "time 1700000000 0\n", "time 1700000000 0\n", "time 1700000000 0\n",
        "time 1700000000 0\n", "time 1700000000 0\n", NULL
    };
    const struct message_sink sink = answering(answers, 1000);

    clock_set(&sink);
    ck_assert_int_ge(set_clock.tv_sec, 1700000000);
}
END_TEST

/* As the server of a share sends it, in a machine that was running before. */
START_TEST(clock_is_set_while_names_change)
{
    const char *const answers[] = { "names\nnames\ntime 1700000000 0\n",
                                    "names\ntime 1700000000 0\n",
                                    "time 1700000000 0\n",
                                    "time 1700000000 0\n",
                                    "time 1700000000 0\n",
                                    "time 1700000000 0\n",
                                    "time 1700000000 0\n",
                                    "time 1700000000 0\n",
                                    NULL };
    const struct message_sink sink = answering(answers, 0);

    clock_set(&sink);
    ck_assert_int_ge(set_clock.tv_sec, 1700000000);
}
END_TEST

static const char *const no_times[] = {
    "signal 2\n", "time 17\n",
    "time 0 0\n", "time 17 1000000000\n",
    "time 17 0",  "0123456789012345678901234567890123456789012345678901234567890123456789\n",
};

START_TEST(clock_stays_without_an_answer)
{
    const char *const answers[] = { no_times[_i], NULL };
    const struct message_sink sink = answering(answers, 0);

    clock_set(&sink);
    ck_assert_int_eq(set_clock.tv_sec, 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("init");
    TCase *tests = tcase_create("init"), *commands = tcase_create("commands");

    tcase_add_checked_fixture(tests, set_up, NULL);
    tcase_add_test(tests, pump_copies_everything_and_ends);
    tcase_add_test(tests, pump_ends_when_nobody_reads);
    tcase_add_test(tests, pump_ends_when_nobody_reads_any_more);
    tcase_add_test(tests, pump_set_aside_when_writers_live_on);
    tcase_add_test(tests, pump_set_aside_when_no_writer_lives);
    tcase_add_test(tests, clock_is_ahead_by_the_time_of_the_answer);
    tcase_add_test(tests, clock_is_set_by_the_fastest_answer);
    tcase_add_test(tests, clock_is_set_while_names_change);
    tcase_add_loop_test(tests, clock_stays_without_an_answer, 0, ARRAY_SIZE(no_times));
    suite_add_tcase(suite, tests);

    tcase_add_checked_fixture(commands, set_up_commands, NULL);
    tcase_add_test(commands, command_gets_its_words_environment_and_directory);
    tcase_add_test(commands, command_has_a_session_and_default_signals);
    tcase_add_loop_test(commands, command_that_does_not_exist, 0, 2);
    tcase_add_test(commands, command_without_a_name);
    tcase_add_test(commands, command_that_cannot_be_executed);
    tcase_add_test(commands, path_is_searched_in_order);
    tcase_add_test(commands, directory_that_does_not_exist);
    tcase_add_loop_test(commands, script_without_an_interpreter, 0, 2);
    tcase_add_test(commands, program_for_another_machine);
    tcase_add_test(commands, groups_that_cannot_be_set);
    tcase_add_test(commands, many_groups);
    suite_add_tcase(suite, commands);
    return unit_run(suite);
}
