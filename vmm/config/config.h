/* SPDX-License-Identifier: MIT */
#ifndef VMM_CONFIG_CONFIG_H
#define VMM_CONFIG_CONFIG_H

#include <stdbool.h>
#include <stdint.h>

#include "devices/block/open.h"
#include "devices/fs/share.h"
#include "devices/net/tap.h"
#include "devices/net/user.h"
#include "vmm/core/arena.h"
#include "vmm/core/base.h"
#include "vmm/core/log.h"

/*
 * The configuration of a machine. config_parse() (schema.h) fills it from a command line. Other
 * callers do so in this order: config_set_defaults(), the fields and config_add_*(),
 * config_complete(), config_check(). Strings are not copied: they must outlive the config, or lie
 * in its arena.
 */

/* Limits, of command lines and of saved configurations. Sizes are multiples of 1 MiB. */
#define CONFIG_MIN_MEMORY (16 * MIB)
#define CONFIG_MAX_SIZE   (16 * 1024 * GIB)
#define CONFIG_MAX_CPUS   1024
#define CONFIG_MAX_POLL   10000 /* microseconds */
#define CONFIG_MAX_PORT   63    /* bytes of a port's name */
#define CONFIG_MAX_OWNER  (UINT32_MAX - 1)

enum console_kind { CONSOLE_NONE, CONSOLE_STDIO, CONSOLE_FILE, CONSOLE_FD };

struct console_config {
    enum console_kind kind;
    bool implied;     /* the default, not asked for */
    const char *path; /* CONSOLE_FILE: truncated, or appended to if `append` */
    bool append;
    uint64_t max; /* CONSOLE_FILE: bytes that it may grow to; 0: any */
    int fd;       /* CONSOLE_FD: output and input */
};

struct disk_config {
    struct block_options image;
    bool replaced;   /* of a snapshot: another image than the saved one */
    int poll_us;     /* microseconds to poll for requests before sleeping; -1: adaptive */
    char serial[21]; /* for VIRTIO_BLK_T_GET_ID; "": the default */
    struct disk_config *next;
};

enum net_kind { NET_USER, NET_TAP };

struct net_config {
    enum net_kind kind;
    bool implied;             /* the default NIC, not asked for: the machine runs without, too */
    struct user_options user; /* NET_USER */
    struct tap_options tap;   /* NET_TAP */
    bool vhost;               /* of a tap: the host's kernel serves its queues */
    uint8_t mac[6];
    bool mac_set;
    struct net_config *next;
};

enum sandbox_mode { SANDBOX_AUTO, SANDBOX_ON, SANDBOX_OFF, SANDBOX_STRICT };

/* A host directory that the guest may mount by its tag. */
struct share_config {
    struct share_options directory;
    char tag[37]; /* 1 to 36 bytes, unique; "": set by config_complete() */
    struct share_config *next;
};

/*
 * A port of the virtio console besides `console`: a stream of bytes in each direction. Both open
 * and close together (virtio 1.2, 5.3.6.2), so a guest that writes after the end of its input needs
 * two ports.
 *
 * The machine owns the descriptors once it is created. It replaces a stream's `output`, unless that
 * is its input as well, by /dev/null, so that the reader sees the end when the guest closes the
 * port: pass a duplicate of a descriptor that is needed elsewhere.
 */
struct port_config {
    const char *name;  /* in the guest: /dev/virtio-ports/NAME */
    int input, output; /* -1, or the wrong access mode: none */
    bool console;      /* a terminal in the guest, hvcN, rather than a stream */
    bool held;         /* input waits until terminal_release() */
    bool ordered;      /* output waits until earlier output of other ports has been written */
    struct port_config *next;
};

struct config {
    const char *directory;       /* the working directory, of relative paths; NULL: not needed */
    const char *kernel, *initrd; /* initrd may be NULL */
    int initrd_fd;               /* the initrd, already open; -1: open `initrd` */
    int unpacked_fd;             /* x86: what a bzImage contains, unpacked; -1: unpacks itself */
    const char *cmdline;         /* NULL: the default */
    const char *dtb;             /* aarch64: replaces the generated device tree; or NULL */
    const char *dump_dtb;        /* aarch64: file to write, or NULL */
    const char *dump_acpi;       /* x86: directory to write to, or NULL */
    uint64_t memory;             /* bytes */
    unsigned cpus;
    bool nested, pmu; /* what KVM offers for the guest's own guests; performance counters */
    struct disk_config *disks; /* in the order given */
    struct net_config *nets;
    struct share_config *shares;
    struct console_config serial;  /* COM1, PL011 */
    struct console_config console; /* virtio-console */
    struct port_config *ports;     /* more ports of virtio-console */
    bool rng;
    bool balloon;        /* memory that the guest frees goes back to the host */
    bool reboot;         /* a reset by the guest starts it again rather than stopping the machine */
    uint64_t timeout_ms; /* 0: none */
    uint64_t grace_ms;   /* from SIGTERM until the machine is stopped */
    enum sandbox_mode sandbox;
    enum log_level log_level;
    bool stats;
    bool dry_run;
    const char *control; /* path of the control socket, or NULL */
    bool saves;          /* the machine may be saved while it runs */
    bool restored;       /* loaded from a snapshot: ports may be connected to nothing */
    struct arena arena;  /* memory of the lists and strings above */
};

/*
 * Sets all defaults, which include an `implied` user-mode NIC. Prints; -errno. config_finish() must
 * follow even after an error.
 */
int config_set_defaults(struct config *config);

/*
 * Append an item with its defaults, owned by the config. NULL: out of memory; printed. The first
 * NIC replaces the implied one.
 */
struct disk_config *config_add_disk(struct config *config);
struct net_config *config_add_net(struct config *config, enum net_kind kind);
struct share_config *config_add_share(struct config *config);
struct port_config *config_add_port(struct config *config);

/*
 * Sets defaults that depend on other fields: a share's tag becomes its directory's name; the serial
 * port is CONSOLE_NONE if the console uses stdio, unless the serial port was configured.
 */
void config_complete(struct config *config);

/* Checks the rules between fields, after config_complete(). Prints the first violation; -EINVAL. */
int config_check(const struct config *config);
int config_check_nets(const struct config *config);  /* checks NICs only */
int config_check_disks(const struct config *config); /* checks disks only */

/* The address of a NIC, the first of which is number 0. */
void config_choose_mac(uint8_t mac[6], const struct net_config *net, unsigned number);

void config_finish(struct config *config);

#endif
