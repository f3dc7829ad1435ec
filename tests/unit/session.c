/* SPDX-License-Identifier: MIT */
#include "vmm/run/session.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/unit/dead_mount.h"
#include "tests/unit/host.h"
#include "tests/unit/unit.h"
#include "vmm/cli/status.h"
#include "vmm/core/base.h"
#include "vmm/core/log.h"

#define LONGER_THAN_A_STOP_MS 1500

/* The functions named like "exits_7" run in the child and play the machine and the agent. */

static struct loop *loop;
static struct session *session;
static struct outcome outcome;
static struct session_times times;
static size_t ended;

static void setup(void)
{
    session = NULL;
    loop = loop_create();
    ck_assert_ptr_nonnull(loop);
}

static void teardown(void)
{
    session_destroy(session);
    loop_destroy(loop);
}

static void note_end(void *owner)
{
    session_report(session, &outcome, &times);
    ended++;
}

static void start(int (*run)(void *owner, const struct session_ends *ends),
                  struct session_config config)
{
    config.label = config.label ? config.label : "";
    config.run = run;
    config.ended = note_end;
    ck_assert_int_eq(session_start(&session, &config, loop), 0);
}

static void wait_for_end(void)
{
    double give_up = host_seconds() + HOST_TIMEOUT_S;

    while (!ended && host_seconds() < give_up) {
        loop_turn(loop, 10);
        session_reap(session);
    }
    ck_assert_uint_eq(ended, 1);
}

/* Waits for the agent's message that the command runs, or with `end`, that it has ended. */
static void wait_for_message(bool end)
{
    double give_up = host_seconds() + HOST_TIMEOUT_S;

    do {
        loop_turn(loop, 10);
        session_reap(session);
        session_report(session, &outcome, &times);
    } while ((end ? times.end : times.command) < 0 && host_seconds() < give_up);
    ck_assert_int_ge(end ? times.end : times.command, 0);
    ck_assert_uint_eq(ended, 0);
}

static void turn(unsigned ms)
{
    double end = host_seconds() + ms / 1000.0;

    while (host_seconds() < end) {
        loop_turn(loop, 10);
        session_reap(session);
    }
}

static void expect(enum outcome_kind kind, int number)
{
    wait_for_end();
    ck_assert_str_eq(outcome_word(outcome.kind), outcome_word(kind));
    ck_assert_int_eq(outcome.number, number);
}

/* In the child. */

static void put(int fd, const char *text)
{
    if (write(fd, text, strlen(text)) < 0)
        _exit(99);
}

/* Waits for SIGUSR2, as a machine does. */
static void wait_for_stop(void)
{
    sigset_t set;
    int number;

    sigemptyset(&set);
    sigaddset(&set, SIGUSR2);
    if (sigwait(&set, &number) != 0)
        _exit(99);
}

static int stops(int status)
{
    wait_for_stop();
    _exit(status);
}

static int asks_for_the_time(void *owner, const struct session_ends *ends)
{
    struct timespec before, after;
    char answer[64] = "";
    long long seconds;
    long ns;

    clock_gettime(CLOCK_REALTIME, &before);
    put(ends->agent, "0 ready\n1 clock\n");
    if (read(ends->agent, answer, sizeof(answer) - 1) < 0 ||
        sscanf(answer, "time %lld %ld\n", &seconds, &ns) != 2)
        _exit(99);
    clock_gettime(CLOCK_REALTIME, &after);
    if (seconds < before.tv_sec || (seconds == before.tv_sec && ns < before.tv_nsec) ||
        seconds > after.tv_sec || (seconds == after.tv_sec && ns > after.tv_nsec))
        _exit(98);
    put(ends->agent, "510 running\n511 clock\n600 exit 7\n");
    wait_for_stop();
    return recv(ends->agent, answer, 1, MSG_DONTWAIT) < 0 ? 0 : 125; /* no answer any more */
}

START_TEST(the_time)
{
    start(asks_for_the_time, (struct session_config){ .boot_timeout_ms = 20000 });
    expect(OUTCOME_EXIT, 7);
}
END_TEST

static int is_stuck(void *owner, const struct session_ends *ends)
{
    while (pause() < 0)
        ;
    return 0;
}

static int exits_7(void *owner, const struct session_ends *ends)
{
    put(ends->agent, "0 ready\n510 running\n600 exit 7\n");
    return stops(0);
}

START_TEST(the_commands_status)
{
    start(exits_7, (struct session_config){ .boot_timeout_ms = 20000, .timeout_ms = 20000 });
    expect(OUTCOME_EXIT, 7);
    ck_assert_int_ge(times.init, 0);
    ck_assert_int_le(times.init, times.command);
    ck_assert_int_le(times.command, times.end);
    ck_assert_int_eq(times.kernel, times.init);
}
END_TEST

static int is_slow_to_end(void *owner, const struct session_ends *ends)
{
    put(ends->agent, "0 ready\n510 running\n600 signal 9\n");
    usleep(LONGER_THAN_A_STOP_MS * 1000);
    return stops(0);
}

START_TEST(output_is_waited_for)
{
    start(is_slow_to_end, (struct session_config){ .boot_timeout_ms = 20000 });
    expect(OUTCOME_SIGNAL, 9);
}
END_TEST

static int never_ends(void *owner, const struct session_ends *ends)
{
    put(ends->agent, "0 ready\n510 running\n600 signal 9\n");
    return is_stuck(owner, ends);
}

START_TEST(a_signal_ends_the_wait_for_output)
{
    start(never_ends, (struct session_config){ .boot_timeout_ms = 20000 });
    wait_for_message(true);
    session_signal(session, SIGINT);
    expect(OUTCOME_INTERRUPTED, SIGINT);
}
END_TEST

static int fails_127(void *owner, const struct session_ends *ends)
{
    put(ends->agent, "0 ready\n510 failed 127 2\n");
    return stops(0);
}

static int sends_impossible_times(void *owner, const struct session_ends *ends)
{
    put(ends->agent, "18446744073709551615 ready\n0 ready\n510 running\n600 exit 0\n");
    return stops(0);
}

START_TEST(impossible_times_are_ignored)
{
    start(sends_impossible_times, (struct session_config){ .boot_timeout_ms = 20000 });
    expect(OUTCOME_EXIT, 0);
    ck_assert_int_ge(times.init, 0);
    ck_assert_int_eq(times.kernel, -1);
}
END_TEST

START_TEST(no_such_command)
{
    start(fails_127, (struct session_config){ .boot_timeout_ms = 20000 });
    expect(OUTCOME_NOT_RUN, 127);
    ck_assert_str_eq(outcome.text, "No such file or directory");
}
END_TEST

static int has_an_error(void *owner, const struct session_ends *ends)
{
    put(ends->agent, "500 error 19 mount /lower\n");
    return stops(0);
}

START_TEST(init_fails)
{
    start(has_an_error, (struct session_config){ .boot_timeout_ms = 20000 });
    expect(OUTCOME_FAILED, 0);
    ck_assert_str_eq(outcome.text, "mount /lower: No such device");
}
END_TEST

static int hangs(void *owner, const struct session_ends *ends)
{
    return stops(0);
}

START_TEST(hang_before_init)
{
    start(hangs, (struct session_config){ .boot_timeout_ms = 200, .timeout_ms = 20000 });
    expect(OUTCOME_HANG, 0);
}
END_TEST

static int refuses_to_load(void *owner, const struct session_ends *ends)
{
    *ends->warm = true;
    put(ends->agent, "0 clock\n");
    return 125;
}

static int goes_on_and_fails(void *owner, const struct session_ends *ends)
{
    *ends->warm = true;
    put(ends->agent, "0 forked\n");
    return 125;
}

static int goes_on_and_hangs(void *owner, const struct session_ends *ends)
{
    *ends->warm = true;
    return stops(0);
}

static int boots_and_fails(void *owner, const struct session_ends *ends)
{
    return 125;
}

static const struct {
    int (*run)(void *owner, const struct session_ends *ends);
    uint64_t boot_timeout_ms, timeout_ms;
    bool stillborn;
} births[] = {
    { refuses_to_load, 20000, 0, true },     { goes_on_and_fails, 20000, 0, false },
    { goes_on_and_hangs, 200, 20000, true }, { goes_on_and_hangs, 20000, 200, false },
    { boots_and_fails, 20000, 0, false },
};

START_TEST(a_warm_machine_that_does_not_go_on)
{
    start(births[_i].run, (struct session_config){ .boot_timeout_ms = births[_i].boot_timeout_ms,
                                                   .timeout_ms = births[_i].timeout_ms });
    wait_for_end();
    ck_assert_int_eq(session_was_stillborn(session), births[_i].stillborn);
}
END_TEST

static int runs_for_ever(void *owner, const struct session_ends *ends)
{
    put(ends->agent, "0 ready\n510 running\n");
    return stops(0);
}

START_TEST(time_limit)
{
    unsigned ms = 100; /* a busy host may need more to start the command */

    do {
        session_destroy(session);
        ended = 0;
        start(runs_for_ever,
              (struct session_config){ .boot_timeout_ms = ms, .timeout_ms = 4 * ms });
        wait_for_end();
        ms *= 4;
    } while (times.command < 0 && ms < HOST_TIMEOUT_S * 1000 / 4);
    expect(OUTCOME_TIMEOUT, 0);
}
END_TEST

START_TEST(a_stuck_machine_is_killed)
{
    double begin = host_seconds();

    start(is_stuck, (struct session_config){ .timeout_ms = 100 });
    expect(OUTCOME_TIMEOUT, 0);
    ck_assert(host_seconds() - begin < HOST_TIMEOUT_S);
}
END_TEST

/* A machine whose files are on a dead mount: no signal reaches the thread that waits for one. */

static struct dead_server server;
static char dead_path[] = TREE_TEMPLATE;

static void *asks_the_dead(void *unused)
{
    struct stat stat;

    lstat(dead_path, &stat);
    return NULL;
}

static int waits_for_a_file(void *owner, const struct session_ends *ends)
{
    put(ends->agent, "0 ready\n510 running\n");
    asks_the_dead(NULL);
    return 0;
}

static int exits_without_a_thread(void *owner, const struct session_ends *ends)
{
    pthread_t thread;

    pthread_create(&thread, NULL, asks_the_dead, NULL);
    pthread_detach(thread);
    put(ends->agent, "0 ready\n510 running\n600 exit 7\n");
    wait_for_stop(); /* sent when the thread waits already: see start_on_a_dead_mount() */
    _exit(0);
}

/* Returns when the child waits for the mount. */
static void start_on_a_dead_mount(int (*run)(void *owner, const struct session_ends *ends),
                                  struct session_config config)
{
    tree_make(dead_path);
    server = dead_mount(dead_path);
    if (server.pid == 0) {
        rmdir(dead_path);
        unit_skip(DEAD_NO_MOUNT);
    }
    start(run, config);
    dead_wait(&server);
}

static void remove_dead_mount(void)
{
    session_destroy(session);
    session = NULL;
    dead_kill(&server);
    umount2(dead_path, MNT_DETACH);
    rmdir(dead_path);
}

START_TEST(a_child_that_cannot_be_killed_is_not_waited_for)
{
    start_on_a_dead_mount(waits_for_a_file, (struct session_config){ .timeout_ms = 100 });
    expect(OUTCOME_TIMEOUT, 0);
    remove_dead_mount();
}
END_TEST

START_TEST(a_child_that_exits_without_a_thread_is_not_waited_for)
{
    start_on_a_dead_mount(exits_without_a_thread, (struct session_config){ .label = "label: " });
    expect(OUTCOME_EXIT, 7);
    remove_dead_mount();
}
END_TEST

static int panics(void *owner, const struct session_ends *ends)
{
    put(ends->log, "x\r\n[ 1.0] Kernel panic - not syncing: oh\r\n[ 1.1] CPU: 0\r\n");
    return 121;
}

START_TEST(panic)
{
    start(panics, (struct session_config){ .boot_timeout_ms = 20000 });
    expect(OUTCOME_PANIC, 0);
    ck_assert_str_eq(outcome.text, "oh");
    ck_assert_uint_eq(session_kernel_log(session)->count, 3);
}
END_TEST

static int has_an_oops(void *owner, const struct session_ends *ends)
{
    put(ends->log, "Kernel panic - not syncing: Fatal exception\r\n");
    return 121;
}

START_TEST(oops)
{
    start(has_an_oops, (struct session_config){ .boot_timeout_ms = 20000 });
    expect(OUTCOME_OOPS, 0);
}
END_TEST

static int writes_like_a_panic(void *owner, const struct session_ends *ends)
{
    put(ends->agent, "0 ready\n510 running\n");
    put(ends->log, "[ 1.0] Kernel panic - not syncing: Fatal exception\r\n");
    usleep(600000); /* time for the supervisor to end a machine that it takes for panicked */
    put(ends->agent, "600 exit 3\n");
    return stops(0);
}

START_TEST(a_line_like_a_panic_ends_nothing)
{
    start(writes_like_a_panic, (struct session_config){ .timeout_ms = HOST_TIMEOUT_S * 1000 });
    expect(OUTCOME_EXIT, 3);
}
END_TEST

static int crashes(void *owner, const struct session_ends *ends)
{
    put(ends->agent, "0 ready\n510 running\n600 exit 0\n");
    signal(SIGTERM, SIG_DFL);
    raise(SIGKILL);
    return 0;
}

/* Its last output may be lost, so that is a failure. */
START_TEST(a_killed_child_is_a_failure)
{
    start(crashes, (struct session_config){ .boot_timeout_ms = 20000 });
    expect(OUTCOME_FAILED, 0);
    ck_assert_ptr_nonnull(strstr(outcome.text, "Killed"));
}
END_TEST

static int has_no_modules(void *owner, const struct session_ends *ends)
{
    log_error(ENOENT, "modules in %s", "nowhere");
    return 125;
}

START_TEST(the_childs_error_message_is_reported)
{
    start(has_no_modules, (struct session_config){ .boot_timeout_ms = 20000 });
    expect(OUTCOME_FAILED, 0);
    ck_assert_str_eq(outcome.text, "modules in nowhere: No such file or directory");
    ck_assert(outcome.printed);
}
END_TEST

static int loses_output(void *owner, const struct session_ends *ends)
{
    put(ends->agent, "0 ready\n510 running\n600 exit 0\n");
    log_error(ENOSPC, "output");
    return stops(125);
}

START_TEST(lost_output_is_a_failure)
{
    start(loses_output, (struct session_config){ .boot_timeout_ms = 20000 });
    expect(OUTCOME_FAILED, 0);
    ck_assert_str_eq(outcome.text, "output: No space left on device");
    ck_assert(!outcome_shows_kernel_log(&outcome));
}
END_TEST

static int ends_on_a_signal(void *owner, const struct session_ends *ends)
{
    char line[64] = "";

    put(ends->agent, "0 ready\n510 running\n");
    if (read(ends->agent, line, sizeof(line) - 1) <= 0 || strcmp(line, "signal 2\n") != 0)
        return 98;
    put(ends->agent, "600 signal 2\n");
    return stops(0);
}

START_TEST(a_signal_reaches_the_command)
{
    start(ends_on_a_signal, (struct session_config){ .boot_timeout_ms = 20000 });
    wait_for_message(false);
    session_signal(session, SIGINT);
    expect(OUTCOME_SIGNAL, SIGINT);
}
END_TEST

START_TEST(the_second_signal_ends_the_machine)
{
    start(runs_for_ever, (struct session_config){ .boot_timeout_ms = 20000 });
    wait_for_message(false);
    session_signal(session, SIGINT);
    turn(100);
    ck_assert_uint_eq(ended, 0);
    session_signal(session, SIGINT);
    expect(OUTCOME_INTERRUPTED, SIGINT);
}
END_TEST

static int ends_but_is_stuck(void *owner, const struct session_ends *ends)
{
    char line[64];

    put(ends->agent, "0 ready\n510 running\n");
    if (read(ends->agent, line, sizeof(line)) <= 0)
        _exit(99);
    put(ends->agent, "600 exit 0\n");
    return is_stuck(owner, ends);
}

/* Neither the command nor its output's reader is waited for longer. */
START_TEST(one_sigterm_is_enough)
{
    const int numbers[] = { SIGTERM, SIGHUP };

    start(_i < 2 ? runs_for_ever : ends_but_is_stuck,
          (struct session_config){ .boot_timeout_ms = 20000, .grace_ms = 100 });
    wait_for_message(false);
    session_signal(session, numbers[_i % 2]);
    expect(OUTCOME_INTERRUPTED, numbers[_i % 2]);
}
END_TEST

/* The person at the keyboard knows what the command does with Ctrl-C. */
START_TEST(a_sigint_has_no_time_limit)
{
    start(runs_for_ever, (struct session_config){ .boot_timeout_ms = 20000, .grace_ms = 1 });
    wait_for_message(false);
    session_signal(session, SIGINT);
    turn(LONGER_THAN_A_STOP_MS);
    ck_assert_uint_eq(ended, 0);
}
END_TEST

START_TEST(a_signal_before_the_command_runs_ends_the_machine)
{
    start(hangs, (struct session_config){ .boot_timeout_ms = 20000 });
    session_signal(session, SIGTERM);
    expect(OUTCOME_INTERRUPTED, SIGTERM);
}
END_TEST

static int waits_for_sigurg(void *owner, const struct session_ends *ends)
{
    sigset_t set;
    int number;

    put(ends->agent, "0 ready\n510 running\n");
    sigemptyset(&set);
    sigaddset(&set, SIGURG);
    if (sigwait(&set, &number) != 0)
        return 98;
    put(ends->agent, "600 exit 5\n");
    return stops(0);
}

/* From then on Ctrl-C goes to the command. */
START_TEST(sigurg_is_sent_when_the_command_runs)
{
    start(waits_for_sigurg,
          (struct session_config){ .boot_timeout_ms = 20000, .timeout_ms = 20000 });
    expect(OUTCOME_EXIT, 5);
}
END_TEST

static int leaving_status;

/* As SIGURG, which has come before. */
static int leaves_a_machine(void *owner, const struct session_ends *ends)
{
    int number;
    sigset_t set;

    put(ends->agent, "0 ready\n510 running\n600 warm\n");
    sigemptyset(&set);
    sigaddset(&set, SIGPROF);
    if (sigwait(&set, &number) != 0)
        return 98;
    *ends->kept = owner;
    return leaving_status;
}

static void start_leaving(bool kept, int status)
{
    leaving_status = status;
    start(leaves_a_machine, (struct session_config){ .boot_timeout_ms = 20000,
                                                     .timeout_ms = 20000,
                                                     .must_keep = true,
                                                     .owner = kept ? &times : NULL });
}

START_TEST(a_machine_that_is_left_when_the_command_has_ended)
{
    start_leaving(true, 0);
    expect(OUTCOME_EXIT, 0);
}
END_TEST

/* As other runs do. */
START_TEST(a_machine_that_is_left_when_output_was_lost)
{
    start_leaving(true, STATUS_FAILED);
    expect(OUTCOME_FAILED, 0);
}
END_TEST

/* The guest says that it waits for a job, and powers off. */
START_TEST(a_machine_that_is_not_left)
{
    start_leaving(false, 0);
    expect(OUTCOME_POWER_OFF, 0);
}
END_TEST

static int says_that_all_is_well(void *owner, const struct session_ends *ends)
{
    put(ends->agent, "0 ready\n510 running\n600 exit 0\n");
    return 0;
}

/* A hostile guest does not even say that it waits for a job. */
START_TEST(a_machine_that_is_not_left_by_a_command_without_fault)
{
    start(says_that_all_is_well, (struct session_config){ .must_keep = _i });
    expect(_i ? OUTCOME_FAILED : OUTCOME_EXIT, 0);
    ck_assert_str_eq(outcome.text, _i ? "the machine was not kept" : "");
}
END_TEST

static int sends_garbage(void *owner, const struct session_ends *ends)
{
    static char garbage[100000];

    memset(garbage, 0xff, sizeof(garbage));
    for (unsigned i = 0; i < 10; i++)
        if (write(ends->agent, garbage, sizeof(garbage)) < 0 ||
            write(ends->log, garbage, sizeof(garbage)) < 0)
            return 98;
    put(ends->agent, "\n1 exit 999\n1 signal 0\nexit 3\n2 running\n");
    return 0;
}

START_TEST(garbage_is_ignored)
{
    start(sends_garbage, (struct session_config){ .boot_timeout_ms = 20000 });
    expect(OUTCOME_POWER_OFF, 0);
}
END_TEST

static int writes_lines(void *owner, const struct session_ends *ends)
{
    char byte;

    if (read(STDIN_FILENO, &byte, 1) != 0)
        return 98;
    put(STDOUT_FILENO, "one\ntw");
    put(STDERR_FILENO, "err\n");
    usleep(50000);
    put(STDOUT_FILENO, "o\n\nthree");
    return exits_7(owner, ends);
}

static void expect_file(int fd, const char *wanted)
{
    char text[256];
    ssize_t length = pread(fd, text, sizeof(text) - 1, 0);

    ck_assert_int_ge(length, 0);
    text[length] = '\0';
    ck_assert_str_eq(text, wanted);
}

START_TEST(lines_are_labelled)
{
    FILE *out = tmpfile(), *err = tmpfile();
    int before[] = { dup(STDOUT_FILENO), dup(STDERR_FILENO) };

    dup2(fileno(out), STDOUT_FILENO);
    dup2(fileno(err), STDERR_FILENO);
    start(writes_lines, (struct session_config){ .label = "6.1: ", .boot_timeout_ms = 20000 });
    wait_for_end();
    dup2(before[0], STDOUT_FILENO);
    dup2(before[1], STDERR_FILENO);
    expect_file(fileno(out), "6.1: one\n6.1: two\n6.1: \n6.1: three\n");
    expect_file(fileno(err), "6.1: err\n");
    expect(OUTCOME_EXIT, 7);
    fclose(out);
    fclose(err);
}
END_TEST

static int keeps_a_pipe_open(void *owner, const struct session_ends *ends)
{
    int *fd = owner;

    put(*fd, "x");
    return is_stuck(owner, ends);
}

/* The pipe comes to its end when no process has it open any more. */
START_TEST(killing_the_supervisor_kills_the_child)
{
    struct host_pipe life = host_pipe();
    struct pollfd ended_fd = { .fd = life.reader, .events = POLLIN };
    int high = fcntl(life.writer, F_DUPFD, 100); /* not close-on-exec, as for --net tap,fd=N */
    pid_t supervisor = fork();
    char byte;

    if (supervisor == 0) {
        start(keeps_a_pipe_open, (struct session_config){ .owner = &high });
        for (;;)
            pause();
    }
    close(life.writer);
    close(high);
    ck_assert_int_eq(read(life.reader, &byte, 1), 1);
    kill(supervisor, SIGKILL);
    ck_assert_int_eq(waitpid(supervisor, NULL, 0), supervisor);
    ck_assert_int_eq(poll(&ended_fd, 1, HOST_TIMEOUT_S * 1000), 1);
    ck_assert_int_eq(read(life.reader, &byte, 1), 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("session");
    TCase *tests = tcase_create("session");

    tcase_set_timeout(tests, 60);
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, the_time);
    tcase_add_test(tests, the_commands_status);
    tcase_add_test(tests, output_is_waited_for);
    tcase_add_test(tests, a_signal_ends_the_wait_for_output);
    tcase_add_test(tests, no_such_command);
    tcase_add_test(tests, impossible_times_are_ignored);
    tcase_add_test(tests, init_fails);
    tcase_add_test(tests, hang_before_init);
    tcase_add_loop_test(tests, a_warm_machine_that_does_not_go_on, 0, ARRAY_SIZE(births));
    tcase_add_test(tests, time_limit);
    tcase_add_test(tests, a_stuck_machine_is_killed);
    tcase_add_test(tests, a_child_that_cannot_be_killed_is_not_waited_for);
    tcase_add_test(tests, a_child_that_exits_without_a_thread_is_not_waited_for);
    tcase_add_test(tests, panic);
    tcase_add_test(tests, a_line_like_a_panic_ends_nothing);
    tcase_add_test(tests, oops);
    tcase_add_test(tests, a_killed_child_is_a_failure);
    tcase_add_test(tests, the_childs_error_message_is_reported);
    tcase_add_test(tests, lost_output_is_a_failure);
    tcase_add_test(tests, a_signal_reaches_the_command);
    tcase_add_test(tests, the_second_signal_ends_the_machine);
    tcase_add_loop_test(tests, one_sigterm_is_enough, 0, 4);
    tcase_add_test(tests, a_sigint_has_no_time_limit);
    tcase_add_test(tests, a_signal_before_the_command_runs_ends_the_machine);
    tcase_add_test(tests, sigurg_is_sent_when_the_command_runs);
    tcase_add_test(tests, a_machine_that_is_left_when_the_command_has_ended);
    tcase_add_test(tests, a_machine_that_is_left_when_output_was_lost);
    tcase_add_test(tests, a_machine_that_is_not_left);
    tcase_add_loop_test(tests, a_machine_that_is_not_left_by_a_command_without_fault, 0, 2);
    tcase_add_test(tests, garbage_is_ignored);
    tcase_add_test(tests, lines_are_labelled);
    tcase_add_test(tests, killing_the_supervisor_kills_the_child);
    suite_add_tcase(suite, tests);
    return unit_run(suite);
}
