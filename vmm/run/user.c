/* SPDX-License-Identifier: MIT */
#include "vmm/run/user.h"

#include <errno.h>
#include <grp.h>
#include <limits.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "firmware/init/job.h"
#include "vmm/config/parse.h"
#include "vmm/core/arena.h"
#include "vmm/core/base.h"
#include "vmm/core/log.h"
#include "vmm/run/guest_file.h"
#include "vmm/run/options.h"

/* Looks up the entry with this name, or if it is NULL, with user->uid. */
static bool user_look_up(struct user *user, struct run_options *options, const char *root,
                         const char *name)
{
    FILE *file = guest_file_read(root, "/etc/passwd");
    struct passwd *entry = NULL;
    bool found = false;

    while (file && !found && (entry = fgetpwent(file)))
        found = name ? !strcmp(entry->pw_name, name) : entry->pw_uid == user->uid;
    if (found) {
        user->uid = entry->pw_uid;
        user->gid = entry->pw_gid;
        user->name = run_options_format(options, "%s", entry->pw_name);
        user->home = entry->pw_dir ? run_options_format(options, "%s", entry->pw_dir) : NULL;
    }
    if (file)
        fclose(file);
    return found;
}

static bool user_is_member(const struct group *group, const char *name)
{
    for (char **member = group->gr_mem; *member; member++)
        if (!strcmp(*member, name))
            return true;
    return false;
}

/* Returns how many groups `name` is in; the first `most` are stored. */
static unsigned user_read_groups(FILE *file, const char *name, uint32_t *ret, unsigned most)
{
    const struct group *entry;
    unsigned count = 0;

    rewind(file);
    while ((entry = fgetgrent(file)))
        if (user_is_member(entry, name) && count++ < most)
            ret[count - 1] = entry->gr_gid;
    return count;
}

static int user_find_groups(struct user *user, struct run_options *options, const char *root)
{
    FILE *file = guest_file_read(root, "/etc/group");
    unsigned most = file ? user_read_groups(file, user->name, NULL, 0) : 0, count = 0;
    uint32_t *groups = arena_alloc(&options->machine.arena, (most + 1) * sizeof(*groups));

    if (file && groups)
        count = user_read_groups(file, user->name, groups, most);
    if (file)
        fclose(file);
    if (!groups)
        return log_error(ENOMEM, "--user");
    if (most > NGROUPS_MAX)
        return log_refuse(E2BIG, "--user %s: more than %d groups in %s/etc/group", user->name,
                          NGROUPS_MAX, strcmp(root, "/") != 0 ? root : "");
    user->groups = groups;
    user->group_count = count < most ? count : most;
    return 0;
}

/* A file that exists but cannot be read would make the user another one. */
static int user_check_file(const char *root, const char *name)
{
    FILE *file = guest_file_read(root, name);

    if (!file && errno != ENOENT && errno != ENOTDIR)
        return log_error(errno, "--user: open %s%s", strcmp(root, "/") != 0 ? root : "", name);
    if (file)
        fclose(file);
    return 0;
}

/* Parses UID or UID:GID, which need not be in the files. */
static bool user_by_number(struct user *user, struct run_options *options, const char *root,
                           const char *text)
{
    char *numbers = run_options_format(options, "%s", text), *gid_text = numbers;
    char *uid_text = strsep(&gid_text, ":");
    uint64_t uid, gid = 0;

    if (!uid_text || !parse_number(uid_text, &uid) || uid >= UINT32_MAX ||
        (gid_text && (!parse_number(gid_text, &gid) || gid >= UINT32_MAX)))
        return false;
    user->uid = (uint32_t)uid;
    if (!user_look_up(user, options, root, NULL)) {
        user->gid = user->uid;
        user->name = uid_text;
    }
    if (gid_text)
        user->gid = (uint32_t)gid;
    return true;
}

int user_find(struct user *ret, struct run_options *options, const char *root)
{
    struct user user = { .name = "root" };
    const char *given = options->user;
    int error;

    if (given && ((error = user_check_file(root, "/etc/passwd")) ||
                  (error = user_check_file(root, "/etc/group"))))
        return error;
    if (given && !user_by_number(&user, options, root, given) &&
        !user_look_up(&user, options, root, given))
        return log_refuse(EINVAL, "--user %s: no such user in %s/etc/passwd; give UID or UID:GID",
                          given, strcmp(root, "/") != 0 ? root : "");
    if (!user.name)
        return -ENOMEM;
    if ((error = user_find_groups(&user, options, root)))
        return error;
    *ret = user;
    return 0;
}

struct user_variables {
    struct run_options *options;
    const char **variables;
    unsigned count;
    bool failed;
};

/* Adds a variable, or replaces the one of the same name. */
static void user_set_variable(struct user_variables *env, const char *name, const char *value)
{
    const char *variable = run_options_format(env->options, "%s=%s", name, value);
    size_t length = strlen(name) + 1;
    unsigned at = 0;

    env->failed |= !variable;
    if (!variable)
        return;
    while (at < env->count && strncmp(env->variables[at], variable, length) != 0)
        at++;
    env->variables[at] = variable;
    env->count += at == env->count;
}

/* Adds NAME=VALUE; NAME alone takes the host's value, if it is set. */
static void user_add_variable(struct user_variables *env, const char *text)
{
    char *name = run_options_format(env->options, "%s", text);
    char *value = name ? strchr(name, '=') : NULL;

    env->failed |= !name;
    if (value)
        *value++ = '\0';
    if (name && (value || (value = getenv(name))))
        user_set_variable(env, name, value);
}

const char *const *user_environment(struct run_options *options, const struct user *user)
{
    const char *const passed_on[] = { "HOME", "SHELL", "TERM", "LANG", "LC_ALL", "TZ", "PATH" };
    struct user_variables env = { .options = options };
    unsigned most = ARRAY_SIZE(passed_on) + 4;

    for (struct run_word *word = options->environment; word; word = word->next)
        most++;
    env.variables = arena_alloc(&options->machine.arena, most * sizeof(*env.variables));
    if (!env.variables) {
        log_error(ENOMEM, "--env");
        return NULL;
    }
    user_set_variable(&env, "PATH", JOB_DEFAULT_PATH);
    for (unsigned i = 0; i < ARRAY_SIZE(passed_on); i++)
        user_add_variable(&env, passed_on[i]);
    user_set_variable(&env, "USER", user->name);
    user_set_variable(&env, "LOGNAME", user->name);
    if (user->home)
        user_set_variable(&env, "HOME", user->home);
    for (struct run_word *word = options->environment; word; word = word->next)
        user_add_variable(&env, word->text);
    return env.failed ? NULL : env.variables;
}
