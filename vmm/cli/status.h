/* SPDX-License-Identifier: MIT */
#ifndef VMM_CLI_STATUS_H
#define VMM_CLI_STATUS_H

/*
 * The exit status, which says how the guest ended. Any other number was chosen by the guest,
 * through the debug-exit device.
 */
enum status {
    STATUS_POWER_OFF = 0, /* or the user left with Ctrl-A x */
    STATUS_USAGE = 2,
    STATUS_GONE = 117,  /* minivmm run: the guest powered off before its command ended */
    STATUS_HANG = 118,  /* minivmm run: no message from the agent within --boot-timeout */
    STATUS_OOPS = 119,  /* minivmm run: a panic after an oops */
    STATUS_RESET = 120, /* with --no-reboot */
    STATUS_PANIC = 121,
    STATUS_TRIPLE_FAULT = 122,
    STATUS_KVM_FAILURE = 123,
    STATUS_TIMEOUT = 124, /* as of coreutils' timeout */
    STATUS_FAILED = 125,  /* an error of minivmm itself, as of container runtimes */
    STATUS_SIGNAL = 128,  /* plus the number of the signal that stopped the machine */
};

#endif
