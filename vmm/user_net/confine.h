/* SPDX-License-Identifier: MIT */
#ifndef VMM_USER_NET_CONFINE_H
#define VMM_USER_NET_CONFINE_H

/*
 * Confines minivmm-net, which has one thread, once its ports are open: no capability, no privilege
 * to gain, no file but the name servers' to read, no keys of the terminal, no program, no other
 * process, no new port, and limited memory and descriptors. Goes without what the host lacks, and
 * says so at debug level.
 */
void confine_network(void);

#endif
