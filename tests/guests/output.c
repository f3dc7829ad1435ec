/* SPDX-License-Identifier: MIT */

/* Writes a number of lines to the virtio console or the serial port. */
#include "lib/sanity.h"

#define LINE        4096u /* bytes: a number, dashes, '\n' */
#define LINE_DIGITS 8u
#define TRANSMIT    1

static struct virtio console;
static struct queue queues[MAX_QUEUES];
static char line[LINE];

static void put_number(unsigned number)
{
    for (unsigned digit = LINE_DIGITS; digit-- > 0; number /= 10)
        line[digit] = (char)('0' + number % 10);
}

static void put_serial(void)
{
    for (unsigned i = 0; i < LINE; i++)
        platform_put(line[i]);
}

static void put_console(void)
{
    queue_submit(&queues[TRANSMIT], &(struct request){ .out = line, .out_size = LINE });
    virtio_notify(&console, TRANSMIT);
    queue_wait(&queues[TRANSMIT], 0);
}

/* Command line: "console 256" or "serial 16". */
int main(void)
{
    bool by_console = word_is(0, "console");
    unsigned lines = word_number(1);

    memset(line, '-', LINE);
    line[LINE - 1] = '\n';
    if (by_console) {
        console = virtio_find(VIRTIO_ID_CONSOLE, 0);
        virtio_start(&console, ~0ull, queues, 2);
    }
    for (unsigned i = 0; i < lines; i++) {
        put_number(i);
        (by_console ? put_console : put_serial)();
    }
    return 0;
}
