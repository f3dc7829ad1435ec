/* SPDX-License-Identifier: MIT */
#ifndef FIRMWARE_INIT_JOB_H
#define FIRMWARE_INIT_JOB_H

/*
 * The interface between the supervisor and the agent, the init that it puts into the guest.
 *
 * The job is the file JOB_FILE in the initramfs: strings "key=value", each ended by a NUL. The
 * order of keys does not matter; a key that may be repeated keeps the order of its values.
 *
 *     module=FILE            to load from JOB_MODULES_DIRECTORY, in this order
 *     warm=yes               load these and say "warm"; the rest of the job comes by the port
 *     seed=HEX               of such a rest: 32 bytes for the kernel's random number generator
 *     freeze=yes             after a command that exits with 0, say "warm": another job comes by
 *                            the port, of which only streams, user, cwd, env and arg count
 *     hook=COMMAND           with freeze: the shell runs this before that command
 *     hostname=NAME
 *     share=ro:TAG:DIRECTORY a virtio-fs mount besides the root; rw: for a writable one
 *     node=TYPE:MAJOR:MINOR:NAME a device node in /dev, c or b, whose driver is not loaded yet
 *     run=NAME               in /run, a tmpfs, show this entry of the root's /run
 *     network=NAME           configure this NIC for minivmm's user-mode network
 *     ipv6=yes               with an IPv6 address, too
 *     file=PATH:CONTENT      a file that the root gets, or has in another form
 *     tty=NAME               a device in /dev: the command's controlling terminal
 *     winsize=ROWS:COLUMNS   the terminal's initial size
 *     stdin=tty|port|null    likewise stdout, stderr
 *     stderr=stdout          both are one stream
 *     uid=N, gid=N, group=N
 *     cwd=DIRECTORY          in another one the command must not run; the default is that of
 *                            the command before, or /
 *     env=NAME=VALUE
 *     arg=WORD               the first is the program, searched for in env's PATH, or in
 *                            JOB_DEFAULT_PATH if env has none
 *
 * The root is the share with the tag JOB_ROOT_TAG: read-only, under an overlay in memory. The run
 * does without the one with the tag JOB_MODULES_TAG if it cannot be mounted.
 *
 * The agent writes messages to the port JOB_PORT_AGENT, one per line: milliseconds since the kernel
 * started, a word, and its arguments. ERRNO is a number, 0 if there is none.
 *
 *     MS ready               the agent runs and its port is open
 *     MS warm                the job comes by the port, and nothing of it is in the machine yet:
 *                            from here any number of machines can go on. With freeze: the same,
 *                            after the command's output and its changes to shares
 *     MS forked              the job is there, and the random numbers are this machine's own
 *     MS clock               a question: the supervisor answers with its time
 *     MS running             the command was executed
 *     MS note ERRNO TEXT     an error that does not prevent the command from running
 *     MS exit N              the command exited; its output has been written to the ports, its
 *                            changes to shares are in the host's files
 *     MS signal N            likewise, the command was killed by a signal
 *     MS failed 127 ERRNO    the command was not found; 126: found, but cannot be executed
 *     MS error ERRNO TEXT    the agent failed
 *
 * After each of the last four the supervisor ends the machine; the agent powers off by itself after
 * JOB_END_TIMEOUT_MS. Errors also go to the kernel's log, in lines that start with "minivmm: ", as
 * the port may not be open yet.
 *
 * The supervisor writes lines to the same port:
 *
 *     time SECONDS NANOSECONDS   since 1970, the answer to "clock"
 *     signal N                   send this signal to the command's process group
 *     names                      drop the names cached of the root: the host changed some
 *     job SIZE                   the answer to "warm"; SIZE bytes follow, strings as in the file
 *
 * JOB_PORT_AGENT must be an `ordered` port (struct port_config): the host reads a message only
 * after the command's output before it. The guest must learn that a port is open before it learns
 * the port's name, by which the agent finds it: the agent takes a port that is not open for one at
 * its end.
 */
#define JOB_FILE              "/job"
#define JOB_MODULES_DIRECTORY "/modules/"

#define JOB_ROOT_TAG    "root"
#define JOB_MODULES_TAG "modules" /* the kernel's modules */

#define JOB_PORT_AGENT  "minivmm.agent"
#define JOB_PORT_STDIN  "minivmm.stdin"
#define JOB_PORT_STDOUT "minivmm.stdout"
#define JOB_PORT_STDERR "minivmm.stderr"
#define JOB_PORT_TTY    "minivmm.tty" /* a console port; the agent opens it as tty=NAME */

#define JOB_DEFAULT_PATH "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

#define JOB_END_TIMEOUT_MS 2000

#endif
