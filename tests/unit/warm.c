/* SPDX-License-Identifier: MIT */
#include "vmm/run/warm.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "tests/unit/host.h"
#include "tests/unit/tree.h"
#include "tests/unit/unit.h"
#include "vmm/cli/status.h"
#include "vmm/config/config.h"
#include "vmm/config/config_state.h"
#include "vmm/core/base.h"
#include "vmm/core/log.h"
#include "vmm/core/state.h"
#include "vmm/core/state_file.h"
#include "vmm/run/warm_command.h"

static char tree[64], named[128];

static void set_up(void)
{
    tree_make(tree);
    snprintf(named, sizeof(named), "%s/minivmm/named", tree);
    setenv("XDG_CACHE_HOME", tree, 1);
    signal(SIGCHLD, SIG_IGN); /* nobody waits for keepers */
    log_expect_errors(true);
}

static void tear_down(void)
{
    tree_remove(tree);
}

static void configure(struct config *config)
{
    struct share_config *share;

    ck_assert_int_eq(config_set_defaults(config), 0);
    share = config_add_share(config);
    ck_assert_ptr_nonnull(share);
    share->directory.path = "/";
    strcpy(share->tag, "root");
}

static void write_files_of(struct warm *w, struct config *config)
{
    const uint8_t id[SNAPSHOT_ID_SIZE] = { 1 };
    struct state s;

    state_begin_save(&s);
    config_state(config, &s);
    ck_assert_int_eq(state_file_write(w->files.fds[SNAPSHOT_FD_STATE], &s, id), 0);
    state_finish(&s);
    ck_assert_int_eq(write(w->files.fds[SNAPSHOT_FD_MEMORY], "memory", 6), 6);
}

static void write_files(struct warm *w)
{
    struct config config;

    configure(&config);
    write_files_of(w, &config);
    config_finish(&config);
}

static int begin(struct warm *w, const char *name, const char *text)
{
    struct config config;
    int error;

    configure(&config);
    error = warm_begin(w, WARM_NAMED, name, text, &config);
    config_finish(&config);
    return error;
}

static void make(const char *name, const char *text)
{
    struct warm w;

    ck_assert_int_eq(begin(&w, name, text), 0);
    write_files(&w);
    ck_assert_int_eq(warm_commit(&w, true), 0);
    warm_close(&w);
}

/* The text of a machine; "": there is none. */
static const char *found(const char *name)
{
    static char text[WARM_TEXT_MAX];
    struct snapshot snap;
    struct config config;

    *text = '\0';
    ck_assert_int_eq(config_set_defaults(&config), 0);
    if (warm_open(&snap, text, &config, WARM_NAMED, name) < 0)
        *text = '\0';
    snapshot_close(&snap);
    config_finish(&config);
    return text;
}

static unsigned entries(void)
{
    DIR *list = opendir(named);
    const struct dirent *entry;
    unsigned count = 0;

    while (list && (entry = readdir(list)))
        count += entry->d_name[0] != '.';
    if (list)
        closedir(list);
    return count;
}

static void wait_for_entries(unsigned count)
{
    double give_up = host_seconds() + HOST_TIMEOUT_S;

    while (entries() != count && host_seconds() < give_up)
        usleep(1000);
    ck_assert_uint_eq(entries(), count);
}

START_TEST(the_last_one_made_is_kept)
{
    struct warm first, second;

    ck_assert_str_eq(found("pg"), "");
    make("pg", "one");
    ck_assert_str_eq(found("pg"), "one");
    ck_assert_int_eq(begin(&first, "pg", "two"), 0);
    ck_assert_int_eq(begin(&second, "pg", "three"), 0);
    write_files(&first);
    write_files(&second);
    ck_assert_str_eq(found("pg"), "one");
    ck_assert_int_eq(warm_commit(&second, true), 0);
    ck_assert_str_eq(found("pg"), "three");
    ck_assert_int_eq(warm_commit(&first, true), 0);
    ck_assert_str_eq(found("pg"), "two");
    warm_close(&first);
    warm_close(&second);
    ck_assert_uint_eq(entries(), 1);
}
END_TEST

START_TEST(one_that_is_replaced_is_there_all_the_time)
{
    unsigned misses = 0;
    pid_t maker;

    make("pg", "text");
    maker = fork();
    if (maker == 0) {
        for (unsigned i = 0; i < 50; i++)
            make("pg", "text");
        _exit(0);
    }
    while (kill(maker, 0) == 0)
        misses += strcmp(found("pg"), "text") != 0;
    ck_assert_uint_eq(misses, 0);
}
END_TEST

START_TEST(nobody_removes_one_that_has_just_begun)
{
    pid_t pruner = fork();
    struct warm w;

    while (pruner == 0)
        warm_prune(WARM_NAMED, "");
    for (unsigned i = 0; i < 300; i++) {
        int error = begin(&w, "pg", "text");

        if (error)
            kill(pruner, SIGKILL);
        ck_assert_int_eq(error, 0);
        warm_close(&w);
    }
    kill(pruner, SIGKILL);
}
END_TEST

START_TEST(what_is_not_committed_leaves_nothing)
{
    struct warm w;

    ck_assert_int_eq(begin(&w, "pg", "text"), 0);
    write_files(&w);
    ck_assert_uint_eq(entries(), 1);
    warm_close(&w);
    wait_for_entries(0);
}
END_TEST

/* What a killed keeper has left is removed by the next one; what a running one makes is not. */
START_TEST(what_a_killed_keeper_leaves)
{
    struct warm w;

    ck_assert_int_eq(begin(&w, "other", "text"), 0);
    tree_put_text(named, "pg.aaaaaa/memory", "memory");
    make("pg", "text");
    wait_for_entries(2);
    tree_put_text(named, "pg.bbbbbb/memory", "memory");
    ck_assert_int_eq(warm_drop("all"), 0);
    ck_assert_uint_eq(entries(), 1);
    write_files(&w);
    ck_assert_int_eq(warm_commit(&w, true), 0);
    warm_close(&w);
    ck_assert_str_eq(found("other"), "text");
}
END_TEST

/* A guest that has taken over the process that saves it asks for all that the user may open. */
START_TEST(the_configuration_is_what_the_user_asked_for)
{
    struct config config;
    struct snapshot snap;
    char text[WARM_TEXT_MAX];
    struct warm w;

    configure(&config);
    config.shares->directory.writable = true;
    config_add_share(&config)->directory.path = "/home";
    config_add_disk(&config)->image.path = "/dev/sda";
    config_add_net(&config, NET_TAP);
    config.memory *= 2;
    ck_assert_int_eq(begin(&w, "pg", "text"), 0);
    write_files_of(&w, &config);
    config_finish(&config);
    ck_assert_int_eq(warm_commit(&w, true), 0);
    warm_close(&w);

    ck_assert_int_eq(config_set_defaults(&config), 0);
    ck_assert_int_eq(warm_open(&snap, text, &config, WARM_NAMED, "pg"), 0);
    ck_assert_str_eq(config.shares->directory.path, "/");
    ck_assert(!config.shares->directory.writable);
    ck_assert(!config.shares->next && !config.disks && !config.nets->next);
    ck_assert_int_eq(config.nets->kind, NET_USER);
    ck_assert_uint_eq(config.memory, 512 * MIB);
    config_finish(&config);
    snapshot_close(&snap);
}
END_TEST

static void damage(unsigned how)
{
    static const char *const names[] = { SNAPSHOT_STATE, SNAPSHOT_MEMORY, "config" };
    char path[200];

    snprintf(path, sizeof(path), "%s/pg/%s", named, names[how % 3]);
    if (how < 3)
        ck_assert_int_eq(unlink(path), 0);
    else if (how < 6)
        ck_assert_int_eq(chmod(path, 0666), 0);
    else if (how < 9)
        ck_assert(unlink(path) == 0 && symlink("/etc/hostname", path) == 0);
    else
        ck_assert(unlink(path) == 0 && mkfifo(path, 0600) == 0);
}

START_TEST(damaged)
{
    make("pg", "text");
    damage((unsigned)_i);
    ck_assert_str_eq(found("pg"), "");
    if (_i < 9) {
        make("pg", "text");
        ck_assert_str_eq(found("pg"), "text");
    }
    ck_assert_int_eq(warm_drop("pg"), 0);
    ck_assert_int_eq(warm_drop("pg"), -ENOENT);
    ck_assert_uint_eq(entries(), 0);
}
END_TEST

START_TEST(names)
{
    static const char *const good[] = { "pg", "a", "Postgres-15_x" };
    static const char *const bad[] = { "",   "all", ".",        "..", "a/b",   "-a",  "a.b",
                                       "_a", "a b", "\xc3\xa4", "a'", "a\nbc", "../x" };
    char name[WARM_NAME_SIZE + 1];

    for (unsigned i = 0; i < ARRAY_SIZE(good); i++)
        ck_assert(warm_is_name(good[i]));
    for (unsigned i = 0; i < ARRAY_SIZE(bad); i++)
        ck_assert(!warm_is_name(bad[i]));
    memset(name, 'a', WARM_NAME_SIZE);
    name[WARM_NAME_SIZE] = '\0';
    ck_assert(!warm_is_name(name));
    name[WARM_NAME_SIZE - 1] = '\0';
    ck_assert(warm_is_name(name));
}
END_TEST

/* As of `minivmm run`, whose options follow the name. */
START_TEST(the_name_comes_first)
{
    static char lines[][2][12] = {
        { "--root", "/" }, { "--root=/", "pg" }, { "--", "true" }, { "-m2G", "pg" }
    };
    char *words[] = { NULL, lines[_i][0], lines[_i][1], NULL }, reason[LOG_REASON_SIZE] = "";

    log_expect_errors(false);
    log_keep_reason(reason, true);
    ck_assert_int_eq(warm_main(3, words), STATUS_USAGE);
    log_keep_reason(NULL, true);
    ck_assert_msg(strstr(reason, "the machine's NAME comes first"), "%s", reason);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("warm");
    TCase *tests = tcase_create("warm");

    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_add_test(tests, the_last_one_made_is_kept);
    tcase_add_test(tests, one_that_is_replaced_is_there_all_the_time);
    tcase_add_test(tests, nobody_removes_one_that_has_just_begun);
    tcase_add_test(tests, what_is_not_committed_leaves_nothing);
    tcase_add_test(tests, what_a_killed_keeper_leaves);
    tcase_add_test(tests, the_configuration_is_what_the_user_asked_for);
    tcase_add_loop_test(tests, damaged, 0, 12);
    tcase_add_test(tests, names);
    tcase_add_loop_test(tests, the_name_comes_first, 0, 4);
    suite_add_tcase(suite, tests);
    return unit_run(suite);
}
