/* SPDX-License-Identifier: MIT */
#ifndef DEVICES_VIRTIO_CONSOLE_H
#define DEVICES_VIRTIO_CONSOLE_H

#include "devices/virtio/virtio.h"

struct terminal;

#define VIRTIO_CONSOLE_PORTS 8

/* Virtio 1.2, 5.3. Linux shows a console as hvc0, ..., other ports as /dev/virtio-ports/NAME. */
struct virtio_console_port {
    struct terminal *terminal; /* on the device's loop, and outlives it; the port is its client */
    const char *name;          /* outlives the device; NULL: none */
    bool console;
    bool ordered; /* see below */
};

/*
 * Each port carries a stream of bytes in each direction. No byte is lost if a reader is slow: bytes
 * stay in the guest's queues until there is room for them.
 *
 * The host closes a port (PORT_OPEN 0) after the last byte of its input, or when the output has no
 * reader any more; in Linux read() then returns 0 and poll() POLLHUP. When the guest closes a port
 * the output ends after the last byte sent before, and later bytes are dropped. A console port is
 * never closed.
 *
 * Output of an `ordered` port is held until all earlier output of the other ports has been written
 * to their descriptors, or dropped for lack of a reader. So a message on that port that the work is
 * done may end the machine at once. A reset, also the machine's last one, drains the output: it
 * waits until the terminals have taken all of it, or have taken nothing for 2 s.
 *
 * A pause neither loses nor repeats a byte: a request that was sent in part continues after that
 * part, also in a restored console. There the driver gets PORT_OPEN and a console's size again, as
 * these belong to the new host.
 *
 * `count` is at most VIRTIO_CONSOLE_PORTS. A single port without a name is a plain console, without
 * MULTIPORT. Copies `ports`. 0 or -errno; prints nothing.
 */
int virtio_console_create(struct virtio_device **ret, const char *name,
                          const struct virtio_console_port *ports, unsigned count,
                          const struct guest_memory *mem, struct loop *loop);

#endif
