/* SPDX-License-Identifier: MIT */
#ifndef VMM_CONFIG_CONFIG_H
#define VMM_CONFIG_CONFIG_H

#include <stdbool.h>
#include <stdint.h>

#include "devices/block/open.h"
#include "devices/fs/share.h"
#include "devices/net/slirp.h"
#include "devices/net/tap.h"
#include "vmm/core/arena.h"
#include "vmm/core/log.h"

/*
 * What a machine is to be. config_parse() (schema.h) fills it from a command line; without one, in
 * this order: config_set_defaults(), the fields and config_add_*(), config_complete() and
 * config_check(). Strings are borrowed: they outlive the config or lie in its arena.
 */

enum console_kind { CONSOLE_NONE, CONSOLE_STDIO, CONSOLE_FILE, CONSOLE_FD };

struct console_config {
    enum console_kind kind;
    bool implied;     /* nobody asked */
    const char *path; /* CONSOLE_FILE: created, or appended to if append */
    bool append;
    int fd; /* CONSOLE_FD: output and input */
};

struct disk_config {
    struct block_options image;
    int poll_us;     /* microseconds to look for requests before sleeping; -1: while it pays */
    char serial[21]; /* what get-id answers; "" for the default */
    struct disk_config *next;
};

enum net_kind { NET_USER, NET_TAP };
enum net_vhost { VHOST_AUTO, VHOST_ON, VHOST_OFF };

struct net_config {
    enum net_kind kind;
    bool implied;              /* nobody asked: the default card, without which a guest can do */
    struct slirp_options user; /* NET_USER */
    struct tap_options tap;    /* NET_TAP */
    enum net_vhost vhost;
    uint8_t mac[6];
    bool mac_set;
    struct net_config *next;
};

/* A directory the guest may mount, by its tag. */
struct share_config {
    struct share_options directory;
    char tag[37]; /* 1 to 36 bytes, "" until config_complete(); no two shares have the same */
    struct share_config *next;
};

/*
 * A port of the virtio console besides `console`: a stream of bytes each way. Both directions open
 * and close as one (virtio 1.2, 5.3.6.2), so a guest that answers after the end of its input needs
 * two ports. The descriptors are the machine's from its creation on. Of a stream, an output that is
 * not the input as well becomes /dev/null's, so that its reader sees the end once the guest closes
 * the port: of what somebody else needs, give a duplicate.
 */
struct port_config {
    const char *name;  /* what the guest knows it by: /dev/virtio-ports/NAME */
    int input, output; /* open for that, or taken for none as -1 is */
    bool console;      /* in the guest a terminal, hvcN, not a stream */
    bool ordered;      /* passes on what the guest says once what other ports said before is out */
    struct port_config *next;
};

struct config {
    const char *kernel, *initrd; /* initrd may be NULL */
    int initrd_fd;               /* what `initrd` names, already open; -1: to be opened */
    const char *cmdline;         /* NULL: the default for this machine */
    const char *dtb;             /* aarch64: a device tree in place of ours, or NULL */
    const char *dump_dtb;        /* aarch64: a file, or NULL */
    const char *dump_acpi;       /* x86: a directory, or NULL */
    uint64_t memory;             /* bytes */
    unsigned cpus;
    struct disk_config *disks; /* in the order given */
    struct net_config *nets;
    struct share_config *shares;
    struct console_config serial;  /* COM1, PL011 */
    struct console_config console; /* virtio-console */
    struct port_config *ports;     /* more of virtio-console */
    bool rng;
    bool reboot;         /* a guest reset starts it again rather than ends us */
    uint64_t timeout_ms; /* 0: none */
    uint64_t grace_ms;   /* from SIGTERM to the end */
    enum log_level log_level;
    bool stats;
    bool dry_run;
    struct arena arena; /* of what the pointers above own */
};

/*
 * What a machine has if nothing is said: among other things a user-mode card, `implied`. Prints;
 * -errno. config_finish() is due whatever the result.
 */
int config_set_defaults(struct config *config);

/*
 * Append an item with its defaults, owned by the config. NULL, after a message: out of memory. The
 * first card takes the place of the implied one.
 */
struct disk_config *config_add_disk(struct config *config);
struct net_config *config_add_net(struct config *config, enum net_kind kind);
struct share_config *config_add_share(struct config *config);
struct port_config *config_add_port(struct config *config);

/*
 * Fills in what was left open: a share's tag is its directory's name; the serial port leaves
 * standard input and output to the console, unless it was given them by name.
 */
void config_complete(struct config *config);

/* The rules between fields, after config_complete(). Prints the first that is broken; -EINVAL. */
int config_check(const struct config *config);
int config_check_nets(const struct config *config); /* only those of network cards */

void config_finish(struct config *config);

#endif
