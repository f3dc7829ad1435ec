/* SPDX-License-Identifier: MIT */
#ifndef VMM_CONFIG_CONFIG_STATE_H
#define VMM_CONFIG_CONFIG_STATE_H

/* A machine's configuration in its saved state. */
struct config;
struct state;

/*
 * Saves what another process needs to build the same machine: everything that the guest sees, and
 * the host files behind it, with absolute paths. Loads it into a configuration with
 * config_set_defaults(), whose descriptors then are -1: what was passed by a descriptor must be
 * passed again. One section; config_check() is due after a load.
 */
void config_state(struct config *config, struct state *s);

#endif
