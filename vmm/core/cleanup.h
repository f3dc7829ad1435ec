/* SPDX-License-Identifier: MIT */
#ifndef VMM_CORE_CLEANUP_H
#define VMM_CORE_CLEANUP_H

#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

/*
 * A local variable that is released at the end of its scope:
 *
 *     cleanup_close int fd = open(path, O_RDWR | O_CLOEXEC);
 *     ...
 *     disk->fd = take_fd(&fd);        // moves ownership; the scope closes nothing
 */
#define cleanup_close  __attribute__((cleanup(cleanup_close_fn)))
#define cleanup_free   __attribute__((cleanup(cleanup_free_fn)))
#define cleanup_unlock __attribute__((cleanup(cleanup_unlock_fn), unused))

static inline void cleanup_close_fn(const int *fd)
{
    if (*fd >= 0)
        close(*fd);
}

static inline void cleanup_free_fn(void *ptr)
{
    free(*(void **)ptr);
}

static inline void cleanup_unlock_fn(pthread_mutex_t *const *mutex)
{
    pthread_mutex_unlock(*mutex);
}

static inline int take_fd(int *fd)
{
    int taken = *fd;

    *fd = -1;
    return taken;
}

/* Holds `mutex` until the end of the enclosing block. */
#define LOCK_SCOPE(mutex) \
    cleanup_unlock pthread_mutex_t *const scope_lock = (pthread_mutex_lock(mutex), (mutex))

#endif
