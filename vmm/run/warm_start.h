/* SPDX-License-Identifier: MIT */
#ifndef VMM_RUN_WARM_START_H
#define VMM_RUN_WARM_START_H

#include <stdbool.h>

#include "firmware/buffer.h"
#include "vmm/machine/lifecycle.h"
#include "vmm/run/warm.h"

/*
 * How the child of `minivmm run --warm` starts its machine: from a warm one or, if there is none
 * yet, by a boot that leaves one for later runs. Whatever prevents both makes it an ordinary boot.
 * And how `minivmm warm NAME` makes a machine with a name, and `minivmm run --from NAME` starts
 * from it. There whatever prevents it is an error.
 */
struct config;

enum warm_mode {
    WARM_OFF,
    WARM_MAKE, /* boots; saves the machine when the agent says "warm", and goes on */
    WARM_NAME, /* the same, after the command, and then ends */
    WARM_FORK, /* goes on from a warm machine */
};

struct warm_start {
    enum warm_mode mode;
    struct snapshot snap; /* WARM_FORK */
    struct warm warm;     /* WARM_MAKE and WARM_NAME */
    struct buffer job;    /* what the agent gets by its port */
    int port;             /* where that is written to */
    struct lifecycle *life;
    bool asked; /* the agent has said "warm" */
    bool *kept; /* WARM_NAME: set when the machine has its name */
    char why[200];
};

/*
 * What a warm machine is kept by: everything that is decided when `config`'s machine boots. `shape`
 * says the same of the console's ports, and `modules` is the directory of the kernel's modules,
 * which are noticed to have changed by depmod's list; or NULL. In the configuration's arena. NULL:
 * such a machine cannot be kept, for the reason that is printed at LOG_LEVEL_INFO.
 */
const char *warm_key(struct config *config, const char *shape, const char *modules);

/* Chooses the mode. `memory`: the size of RAM in bytes. `anew`: none that there is will do. */
void warm_choose(struct warm_start *w, const char *key, uint64_t memory, bool anew);

/* To make one with a name: `text` is for warm_list(), and `config` has all but the ports, which are
 * the same in each. Prints; -errno. */
int warm_name(struct warm_start *w, struct config *config, const char *name, const char *text,
              bool *kept);

/* To go on from one, which was opened and becomes w's. */
void warm_take(struct warm_start *w, struct snapshot *snap);

/*
 * Before the machine is created, after the mode was chosen and `job` was filled: prepares the
 * configuration, and gives a warm machine its job. The mode becomes WARM_OFF if the job is too long
 * for the port, or the warm machine is no good. Prints; -errno.
 */
int warm_prepare(struct warm_start *w, struct config *config, int port);

/* On the main loop: the supervisor says that the agent has said "warm"; what became of the pause.
 */
void warm_asked(struct warm_start *w, struct lifecycle *life);
void warm_on_event(struct warm_start *w, enum life_event event, const char *name);

void warm_finish(struct warm_start *w);

#endif
