/* SPDX-License-Identifier: MIT */
#include "vmm/run/user.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/openat2.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "firmware/init/job.h"
#include "vmm/config/parse.h"
#include "vmm/core/arena.h"
#include "vmm/core/base.h"
#include "vmm/core/cleanup.h"
#include "vmm/core/log.h"
#include "vmm/run/options.h"

#define GROUPS_MAX 64

/* A plain file of the guest's. Links lead where they would lead in the guest, or nowhere. */
static FILE *user_open(const char *root, const char *name)
{
    const struct open_how how = { .flags = O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC,
                                  .resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS };
    cleanup_close int directory = open(root, O_PATH | O_DIRECTORY | O_CLOEXEC);
    cleanup_close int fd =
        directory < 0 ? -1 : (int)syscall(SYS_openat2, directory, name, &how, sizeof(how));
    struct stat stat;
    FILE *file;

    if (fd < 0 || fstat(fd, &stat) < 0 || !S_ISREG(stat.st_mode))
        return NULL;
    file = fdopen(fd, "r");
    if (file)
        take_fd(&fd);
    return file;
}

/* The entry with this name, or, where that is NULL, with this number. */
static bool user_look_up(struct user *user, struct command *command, const char *root,
                         const char *name)
{
    FILE *file = user_open(root, "/etc/passwd");
    struct passwd *entry = NULL;
    bool found = false;

    while (file && !found && (entry = fgetpwent(file)))
        found = name ? !strcmp(entry->pw_name, name) : entry->pw_uid == user->uid;
    if (found) {
        user->uid = entry->pw_uid;
        user->gid = entry->pw_gid;
        user->name = command_format(command, "%s", entry->pw_name);
        user->home = command_format(command, "%s", entry->pw_dir);
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

static int user_find_groups(struct user *user, struct command *command, const char *root)
{
    FILE *file = user_open(root, "/etc/group");
    uint32_t *groups = arena_alloc(&command->machine.arena, GROUPS_MAX * sizeof(*groups));
    struct group *entry;

    while (file && groups && user->group_count < GROUPS_MAX && (entry = fgetgrent(file)))
        if (user_is_member(entry, user->name))
            groups[user->group_count++] = entry->gr_gid;
    if (file)
        fclose(file);
    user->groups = groups;
    return groups ? 0 : log_error(ENOMEM, "--user");
}

/* UID or UID:GID, which need not be in any list. */
static bool user_by_number(struct user *user, struct command *command, const char *root,
                           const char *text)
{
    char *numbers = command_format(command, "%s", text), *gid_text = numbers;
    char *uid_text = strsep(&gid_text, ":");
    uint64_t uid, gid = 0;

    if (!uid_text || !parse_number(uid_text, &uid) || uid >= UINT32_MAX ||
        (gid_text && (!parse_number(gid_text, &gid) || gid >= UINT32_MAX)))
        return false;
    user->uid = (uint32_t)uid;
    if (!user_look_up(user, command, root, NULL)) {
        user->gid = user->uid;
        user->name = uid_text;
    }
    if (gid_text)
        user->gid = (uint32_t)gid;
    return true;
}

int user_find(struct user *ret, struct command *command, const char *root)
{
    struct user user = { .name = "root" };
    const char *given = command->user;
    int error;

    if (given && !user_by_number(&user, command, root, given) &&
        !user_look_up(&user, command, root, given))
        return log_refuse(EINVAL, "--user %s: no such user in %s/etc/passwd; give a number", given,
                          strcmp(root, "/") != 0 ? root : "");
    if (!user.name)
        return -ENOMEM;
    if ((error = user_find_groups(&user, command, root)))
        return error;
    *ret = user;
    return 0;
}

struct environment {
    struct command *command;
    const char **variables;
    unsigned count;
    bool failed;
};

/* In place of one of the same name. */
static void environment_set(struct environment *env, const char *name, const char *value)
{
    const char *variable = command_format(env->command, "%s=%s", name, value);
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

/* NAME=VALUE, or NAME: as it is here, if it is. */
static void environment_add(struct environment *env, const char *text)
{
    char *name = command_format(env->command, "%s", text);
    char *value = name ? strchr(name, '=') : NULL;

    env->failed |= !name;
    if (value)
        *value++ = '\0';
    if (name && (value || (value = getenv(name))))
        environment_set(env, name, value);
}

const char *const *user_environment(struct command *command, const struct user *user)
{
    const char *const passed_on[] = { "HOME", "SHELL", "TERM", "LANG", "LC_ALL", "TZ", "PATH" };
    struct environment env = { .command = command };
    unsigned most = ARRAY_SIZE(passed_on) + 4;

    for (struct command_word *word = command->environment; word; word = word->next)
        most++;
    env.variables = arena_alloc(&command->machine.arena, most * sizeof(*env.variables));
    if (!env.variables) {
        log_error(ENOMEM, "--env");
        return NULL;
    }
    environment_set(&env, "PATH", JOB_DEFAULT_PATH);
    for (unsigned i = 0; i < ARRAY_SIZE(passed_on); i++)
        environment_add(&env, passed_on[i]);
    environment_set(&env, "USER", user->name);
    environment_set(&env, "LOGNAME", user->name);
    if (user->home)
        environment_set(&env, "HOME", user->home);
    for (struct command_word *word = command->environment; word; word = word->next)
        environment_add(&env, word->text);
    return env.failed ? NULL : env.variables;
}
