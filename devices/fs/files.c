/* SPDX-License-Identifier: MIT */
#include "devices/fs/files.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "devices/fs/budget.h"
#include "devices/fs/tree.h"
#include "vmm/core/cleanup.h"

static bool file_is_listed(const struct open_file *file)
{
    return file->fd >= 0 && file->access == O_RDONLY;
}

static void files_list(struct tree *tree, struct open_file *file)
{
    file->newer = NULL;
    file->older = tree->readable.first;
    *(tree->readable.first ? &tree->readable.first->newer : &tree->readable.last) = file;
    tree->readable.first = file;
}

static void files_unlist(struct tree *tree, struct open_file *file)
{
    *(file->newer ? &file->newer->older : &tree->readable.first) = file->older;
    *(file->older ? &file->older->newer : &tree->readable.last) = file->newer;
}

static void files_set_fd(struct tree *tree, struct open_file *file, int fd)
{
    file->fd = fd;
    if (file_is_listed(file))
        files_list(tree, file);
}

static void files_put_descriptor(struct tree *tree)
{
    tree->descriptors--;
    budget_put(&tree->nodes.budget->descriptors);
}

/* Closes the descriptor. Last, since the loop is released meanwhile. */
static void files_close(struct tree *tree, struct open_file *file)
{
    int fd = file->fd;

    if (fd < 0)
        return;
    if (file_is_listed(file))
        files_unlist(tree, file);
    file->fd = -1;
    files_put_descriptor(tree);
    TREE_CALL(tree, close(fd));
}

/* Can the file be closed, and reopened by place? */
static bool files_can_close(const struct tree *tree, const struct open_file *file)
{
    const struct node *node = file->node;

    return file->pins == 0 && node->held == 0 && !file->former &&
           (node->parent || node == tree->nodes.root);
}

/* Closes the least recently used file that can be closed. False: there is none. */
static bool files_evict(struct tree *tree)
{
    struct open_file *file = tree->readable.last;

    while (file && !files_can_close(tree, file))
        file = file->newer;
    if (!file)
        return false;
    files_close(tree, file);
    return true;
}

/* Takes a descriptor of the budget. Other shares may have used it up: each has a few of its own. */
static bool files_take_descriptor(struct tree *tree)
{
    struct share_budget *budget = tree->nodes.budget;

    while (!budget_take(&budget->descriptors) && tree->descriptors >= BUDGET_OWN_DESCRIPTORS) {
        budget_put(&budget->descriptors);
        if (!files_evict(tree))
            return false;
    }
    tree->descriptors++;
    return true;
}

/* Opens the node's file. The process may be out of descriptors even if the budget is not. */
static int files_open_fd(struct tree *tree, struct node *node, int access, struct statx *attr)
{
    int flags = access | (S_ISDIR(node->identity.type) ? O_DIRECTORY : 0);
    int fd;

    if (!files_take_descriptor(tree))
        return -ENFILE;
    do
        fd = tree_open_file(tree, node, flags, attr);
    while ((fd == -EMFILE || fd == -ENFILE) && files_evict(tree));
    if (fd < 0)
        files_put_descriptor(tree);
    return fd;
}

static int files_create(struct open_file **ret, struct node *node, int access)
{
    struct open_file *file = calloc(1, sizeof(*file));

    if (!file)
        return -ENOMEM;
    file->node = node;
    file->access = access;
    file->fd = -1;
    file->handles = 1;
    file->next = node->files;
    node->files = file;
    *ret = file;
    return 0;
}

static struct open_file *files_find(const struct node *node, int access)
{
    struct open_file *file = S_ISDIR(node->identity.type) ? NULL : node->files;

    while (file && (file->access != access || file->handles == 0 || file->former))
        file = file->next;
    return file;
}

/* Another handle of a file that is open, or was. */
static int files_share(struct tree *tree, struct open_file *file, struct statx *attr)
{
    int fd, error = 0;

    FILE_SCOPE(tree, file);
    file->handles++;
    fd = files_fd(tree, file);
    if (fd < 0)
        error = fd;
    else if (attr)
        error = (int)TREE_CALL(tree, statx(fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS, attr));
    if (error)
        file->handles--;
    return error;
}

int files_open(struct tree *tree, struct open_file **ret, struct node *node, int access,
               struct statx *attr)
{
    int error, fd;

    *ret = files_find(node, access);
    if (*ret)
        return files_share(tree, *ret, attr);
    fd = files_open_fd(tree, node, access, attr);
    if (fd < 0)
        return fd;
    error = files_create(ret, node, access);
    if (error) {
        files_put_descriptor(tree);
        TREE_CALL(tree, close(fd));
        return error;
    }
    files_set_fd(tree, *ret, fd);
    return 0;
}

int files_add(struct tree *tree, struct open_file **ret, struct node *node, int access, int fd)
{
    int error = files_take_descriptor(tree) ? files_create(ret, node, access) : -ENFILE;

    if (!error) {
        files_set_fd(tree, *ret, fd);
        return 0;
    }
    if (error == -ENOMEM)
        files_put_descriptor(tree);
    TREE_CALL(tree, close(fd));
    return error;
}

int files_restore(struct tree *tree, struct open_file **ret, struct node *node, int access)
{
    struct open_file *file = files_find(node, access);

    if (!file)
        return files_create(ret, node, access);
    file->handles++;
    *ret = file;
    return 0;
}

/* Frees a file that nobody uses. */
static void files_release(struct tree *tree, struct open_file *file)
{
    struct open_file **link = &file->node->files;

    if (file->handles > 0 || file->pins > 0)
        return;
    while (*link != file)
        link = &(*link)->next;
    *link = file->next;
    nodes_release(&tree->nodes, file->node);
    files_close(tree, file);
    free(file);
}

void files_put(struct tree *tree, struct open_file *file)
{
    file->handles--;
    files_release(tree, file);
}

struct file_pin files_pin(struct tree *tree, struct open_file *file)
{
    if (file)
        file->pins++;
    return (struct file_pin){ tree, file };
}

void file_unpin(struct file_pin *pin)
{
    if (!pin->file)
        return;
    pin->file->pins--;
    files_release(pin->tree, pin->file);
}

/* Opens the descriptor again. */
static int files_reopen(struct tree *tree, struct open_file *file)
{
    int fd = file->former ? -ESTALE : files_open_fd(tree, file->node, file->access, NULL);

    if (fd < 0)
        return fd;
    if (file->fd < 0 && !file->former) {
        files_set_fd(tree, file, fd);
        return fd;
    }
    files_put_descriptor(tree); /* another request was faster, or this is another file by now */
    TREE_CALL(tree, close(fd));
    return file->fd < 0 ? -ESTALE : file->fd;
}

int files_fd(struct tree *tree, struct open_file *file)
{
    if (file->fd < 0)
        return files_reopen(tree, file);
    if (file_is_listed(file) && file != tree->readable.first) {
        files_unlist(tree, file);
        files_list(tree, file);
    }
    return file->fd;
}

static int files_hold_one(struct tree *tree, struct open_file *file)
{
    FILE_SCOPE(tree, file);
    return files_fd(tree, file);
}

/* Starts again after each: the list may have changed meanwhile. */
void files_hold(struct tree *tree, struct node *node)
{
    struct open_file *file;

    node->held++;
    do {
        file = node->files;
        while (file && (file->fd >= 0 || file->former))
            file = file->next;
    } while (file && files_hold_one(tree, file) >= 0);
}

void files_unhold(struct node *node)
{
    node->held--;
}
