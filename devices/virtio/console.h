/* SPDX-License-Identifier: MIT */
#ifndef DEVICES_VIRTIO_CONSOLE_H
#define DEVICES_VIRTIO_CONSOLE_H

#include "devices/virtio/virtio.h"

struct terminal;

#define VIRTIO_CONSOLE_PORTS 8

/* Virtio 1.2, 5.3. A console is hvc0, hvc1, ... in Linux, any other /dev/virtio-ports/NAME. */
struct virtio_console_port {
    struct terminal *terminal; /* outlives the device and is on its loop; the port is its client */
    const char *name;          /* outlives the device, too; NULL: none */
    bool console;
    bool ordered; /* see below */
};

/*
 * A stream of bytes each way for each port. Nothing is lost, and who is slow is waited for: bytes
 * stay in the guest's queues until there is room for them.
 *
 * The guest's end of a port is closed (PORT_OPEN 0) when all input was put into its queue and no
 * more will come, or when nobody reads the output: Linux' read() gives 0 then, poll() POLLHUP. When
 * the guest closes a port, the output ends behind the last byte sent before, and what comes later
 * is dropped. A console is closed by nobody.
 *
 * What the guest sends to an `ordered` port is passed on when everything that it sent to the others
 * before is out: written to their descriptors, or dropped because nobody reads. So who hears on
 * that port that the work is done may end the machine at once. A reset, the machine's last one too,
 * waits until the terminals have taken what is queued, or for 2 s took nothing.
 *
 * A pause loses no byte and repeats none: a request of which a part is out goes on behind it, also
 * in a console that was restored. There the guest is told again whether each port is open, and of a
 * console's size: these are the new host's.
 *
 * At most VIRTIO_CONSOLE_PORTS; one alone without a name is a plain console, without MULTIPORT.
 * Copies `ports`. 0, or -errno; prints nothing.
 */
int virtio_console_create(struct virtio_device **ret, const char *name,
                          const struct virtio_console_port *ports, unsigned count,
                          const struct guest_memory *mem, struct loop *loop);

#endif
