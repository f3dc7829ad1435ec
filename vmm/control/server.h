/* SPDX-License-Identifier: MIT */
#ifndef VMM_CONTROL_SERVER_H
#define VMM_CONTROL_SERVER_H

#include <stdbool.h>

#include "vmm/core/loop.h"
#include "vmm/machine/lifecycle.h"

/*
 * The control socket of a machine: HTTP requests with JSON, of the form of Firecracker's API.
 *
 *     GET /                 {"id", "state": "Not started"|"Running"|"Paused", ...}
 *     GET /vm/config        {"machine-config", "drives": [...]}
 *     PATCH /vm             {"state": "Paused"|"Resumed"}
 *     PUT /snapshot/create  {"snapshot_type"?: "Full", "stop"?: bool}, with descriptors
 *
 * Files are opened by the client and come as descriptors (SCM_RIGHTS) with the first bytes of a
 * request: the confined process opens none. A snapshot needs empty files for the state, the memory
 * and each drive that is not read-only, in this order. A running machine is paused meanwhile; with
 * "stop" it ends then.
 *
 * Answers are 200, 204 or, with {"fault_message"}, 400. A client must have the user's own id, or be
 * root. All on the main loop, which waits for no client.
 */
struct control;

/* From machine_create() on. `listener` becomes the server's. NULL: out of memory; printed. */
struct control *control_serve(int listener, struct lifecycle *life, struct loop *loop);

/* Of the life's client: what becomes of a request. Accepts NULL. */
void control_on_event(struct control *control, enum life_event event, const char *name);

/*
 * Whether a request is being carried out after which the machine, which is or will be paused for
 * it, runs on. Accepts NULL.
 */
bool control_runs_on(const struct control *control);

void control_close(struct control *control); /* accepts NULL */

#endif
