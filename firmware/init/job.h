/* SPDX-License-Identifier: MIT */
#ifndef FIRMWARE_INIT_JOB_H
#define FIRMWARE_INIT_JOB_H

/*
 * What minivmm and the init it puts into a guest have agreed on.
 *
 * The file ORDERS_FILE in the initramfs is strings "key=value", each with a NUL behind it. They
 * are carried out in a fixed order, whatever theirs; a key that may come more than once keeps the
 * order of its values.
 *
 *     module=FILE            loaded from ORDERS_MODULES, in this order
 *     hostname=NAME
 *     share=ro:TAG:DIRECTORY virtio-fs besides the root; or rw:
 *     network=user           the first network card has a place in minivmm's user-mode network
 *     tty=NAME               of a device in /dev: the command's controlling terminal
 *     winsize=ROWS:COLUMNS   that it has at the start
 *     stdin=tty|port|null    likewise stdout, stderr
 *     stderr=stdout          as one stream
 *     uid=N, gid=N, group=N
 *     cwd=DIRECTORY
 *     env=NAME=VALUE
 *     arg=WORD               the first is the program, looked up in the ordered PATH, or in
 *                            ORDERS_DEFAULT_PATH if none was ordered
 *
 * The root is the share with the tag ORDERS_ROOT: read-only, under an overlay in memory.
 *
 * The init writes lines to the port ORDERS_CONTROL: milliseconds since the kernel started, a word,
 * and what belongs to it. ERRNO is a number, 0 if there is none.
 *
 *     MS ready               it is there, and so are the ports
 *     MS running             the command has been executed
 *     MS note ERRNO TEXT     something went wrong that the command may not care about
 *     MS exit N              the command's end: all it had to say is on its way to the host, what
 *     MS signal N            it wrote to shares is in the host's files
 *     MS failed 127 ERRNO    the command could not be executed; 126: there is such a file
 *     MS error ERRNO TEXT    the init could not do its part
 *
 * After each of the last four the host is expected to end the machine; the guest powers off if
 * nobody does for ORDERS_PATIENCE_MS. Errors go to the kernel's log, too, in lines that start with
 * "minivmm: ", since there may be no port to tell them to.
 *
 * The host writes lines to the same port:
 *
 *     signal N               to the command's process group
 *
 * The port ORDERS_CONTROL must be an `ordered` one (struct port_config), so that what is said there
 * comes after what the command wrote; and a guest must hear whether a port is open before it hears
 * its name, by which the init finds it: one that is not open then has come to its end.
 */
#define ORDERS_FILE    "/orders"
#define ORDERS_MODULES "/modules/"

#define ORDERS_ROOT "root" /* tag */

#define ORDERS_CONTROL "minivmm.control"
#define ORDERS_STDIN   "minivmm.stdin"
#define ORDERS_STDOUT  "minivmm.stdout"
#define ORDERS_STDERR  "minivmm.stderr"
#define ORDERS_TTY     "minivmm.tty" /* a console: the init finds it as the device tty=NAME */

#define ORDERS_DEFAULT_PATH "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

#define ORDERS_PATIENCE_MS 2000

#endif
