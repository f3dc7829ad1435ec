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

/* What the command line says, and no more. Strings point into argv or are owned by the config. */

enum console_kind { CONSOLE_NONE, CONSOLE_STDIO, CONSOLE_FILE, CONSOLE_FD };

struct console_config {
    enum console_kind kind;
    bool implied; /* nobody asked */
    char *path;   /* CONSOLE_FILE: created, or appended to if append */
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
    char tag[37]; /* one to 36 bytes; no two shares have the same */
    struct share_config *next;
};

/*
 * A port of the virtio console besides --console: a stream of bytes each way. Both directions open
 * and close as one (virtio 1.2, 5.3.6.2), so a guest that answers after the end of its input needs
 * two ports. The descriptors are the machine's from its creation on. Of a stream, an output that is
 * not the input as well becomes /dev/null's, so that its reader sees the end once the guest closes
 * the port: of what somebody else needs, give a duplicate.
 */
struct port_config {
    char *name;        /* what the guest knows it by: /dev/virtio-ports/NAME */
    int input, output; /* open for that, or taken for none as -1 is */
    bool console;      /* in the guest a terminal, hvcN, not a stream */
    bool ordered;      /* passes on what the guest says once what other ports said before is out */
    struct port_config *next;
};

struct config {
    char *kernel, *initrd; /* initrd may be NULL */
    int initrd_fd;         /* what `initrd` names, already open; -1: to be opened */
    char *cmdline;         /* NULL: the default for this machine */
    char *dtb;             /* aarch64: a device tree in place of ours, or NULL */
    char *dump_dtb;        /* aarch64: a file, or NULL */
    char *dump_acpi;       /* x86: a directory, or NULL */
    uint64_t memory;       /* bytes */
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

int config_set_defaults(struct config *config); /* prints; -errno; config_finish() follows */

enum config_result { CONFIG_RUN, CONFIG_DONE, CONFIG_USAGE };

/* What the keys of --net lack together. Prints; -errno. */
int config_check_nets(const struct config *config);

/*
 * Reads the command line; config_finish() is due whatever the result. CONFIG_DONE after --help or
 * --version, whose text went to stdout. CONFIG_USAGE after one line on stderr that names the wrong
 * word and the remedy.
 */
enum config_result config_parse(struct config *config, int argc, char **argv);
void config_finish(struct config *config);

#endif
