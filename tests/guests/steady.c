/* SPDX-License-Identifier: MIT */

/*
 * Uses every device and checks all data, round after round, until a byte arrives on the virtio
 * console, while the host pauses the machine. The second CPU counts on the serial port; the virtio
 * console gets a line per round. At the end it prints the number of rounds. With "alone" on the
 * command line it uses only the disk and the consoles; with "single", no second CPU; with "eight",
 * six more, which only run; with "vhost", vhost-net serves the NIC.
 */
#include <linux/fuse.h>
#include <linux/virtio_blk.h>

#include "lib/virtio.h"

#define SECTORS    64
#define WORDS      128        /* of a sector */
#define CREATE     (2 | 0100) /* O_RDWR | O_CREAT */
#define NET_HEADER 12u
#define ARP_SIZE   42u
#define RESEND_MS  1000 /* a network whose machine moves loses frames */

enum { RECEIVE, TRANSMIT };
enum { FUSE_REQUESTS = 1 };

static struct virtio disk, console, net, fs, rng;
static struct queue disk_queue, console_queues[2], net_queues[2], fs_queues[2], rng_queue;
static uint32_t written_in[SECTORS]; /* the last round that wrote a sector, plus one */
static volatile bool over, counted;  /* set by the first, and by the second CPU */
static unsigned running;             /* of the third to eighth CPU */

static void count(void)
{
    for (uint32_t number = 0; !over; number++)
        print("%u\n", number);
    counted = true;
}

static void run(void)
{
    __atomic_fetch_add(&running, 1, __ATOMIC_SEQ_CST);
    while (!over)
        platform_relax();
    __atomic_fetch_sub(&running, 1, __ATOMIC_SEQ_CST);
}

static void start_cpus(void)
{
    for (unsigned i = 2; word_is(0, "eight") && i < 8; i++) {
        expect(platform_start_cpu(i, run));
        wait_for(__atomic_load_n(&running, __ATOMIC_SEQ_CST) == i - 1);
    }
    if (word_is(0, "single"))
        counted = true;
    else
        expect(platform_start_cpu(1, count));
}

static void pattern(uint32_t words[WORDS], uint32_t round)
{
    for (unsigned i = 0; i < WORDS; i++)
        words[i] = round * 2654435761u + i;
}

/*
 * A used buffer sets the bit in InterruptStatus; the acknowledgement clears it, but not where
 * vhost-net serves the queues.
 */
static void acknowledge(const struct virtio *v)
{
    wait_for(virtio_get(v, VIRTIO_MMIO_INTERRUPT_STATUS) & VIRTIO_MMIO_INT_VRING);
    virtio_set(v, VIRTIO_MMIO_INTERRUPT_ACK, VIRTIO_MMIO_INT_VRING);
    if (v != &net || !word_is(0, "vhost"))
        wait_for(!(virtio_get(v, VIRTIO_MMIO_INTERRUPT_STATUS) & VIRTIO_MMIO_INT_VRING));
}

static uint32_t ask(const struct virtio *v, struct queue *q, unsigned queue,
                    const struct request *request)
{
    uint32_t size;

    q->avail.used_event = q->seen; /* an interrupt for the next used buffer */
    queue_submit(q, request);
    virtio_notify(v, queue);
    size = queue_wait(q, 0);
    acknowledge(v);
    return size;
}

static void transfer(uint32_t type, uint32_t sector, uint32_t words[WORDS])
{
    static struct virtio_blk_outhdr header;
    static volatile uint8_t status;
    bool read = type == VIRTIO_BLK_T_IN;

    header = (struct virtio_blk_outhdr){ .type = type, .sector = sector };
    status = 0xff;
    queue_describe(&disk_queue, 0, &header, sizeof(header), VRING_DESC_F_NEXT, 1);
    queue_describe(&disk_queue, 1, words, WORDS * 4,
                   VRING_DESC_F_NEXT | (read ? VRING_DESC_F_WRITE : 0), 2);
    queue_describe(&disk_queue, 2, &status, 1, VRING_DESC_F_WRITE, 0);
    disk_queue.avail.used_event = disk_queue.seen;
    queue_offer(&disk_queue, 0);
    virtio_notify(&disk, 0);
    queue_wait(&disk_queue, 0);
    acknowledge(&disk);
    expect_equal(status, VIRTIO_BLK_S_OK);
}

static void check_sector(const uint32_t words[WORDS], uint32_t sector)
{
    static uint32_t wanted[WORDS];

    if (written_in[sector])
        pattern(wanted, written_in[sector] - 1);
    else
        memset(wanted, 0, sizeof(wanted));
    expect(!memcmp(words, wanted, sizeof(wanted)));
}

static void use_disk(uint32_t round)
{
    static uint32_t words[WORDS];

    pattern(words, round);
    transfer(VIRTIO_BLK_T_OUT, round % SECTORS, words);
    written_in[round % SECTORS] = round + 1;
    memset(words, 0xee, sizeof(words));
    transfer(VIRTIO_BLK_T_IN, round * 7 % SECTORS, words);
    check_sector(words, round * 7 % SECTORS);
}

static void use_rng(void)
{
    static uint8_t entropy[32];

    expect_equal(
        ask(&rng, &rng_queue, 0, &(struct request){ .in = entropy, .in_size = sizeof(entropy) }),
        sizeof(entropy));
}

static bool arrives(const struct queue *q)
{
    for (uint64_t end = platform_ms() + RESEND_MS; platform_ms() < end; platform_relax())
        if (q->used.idx != q->seen)
            return true;
    return false;
}

/* ARP: who has 10.0.2.2? Other frames of the gateway may come first. */
static void use_net(void)
{
    static const uint8_t request[NET_HEADER + ARP_SIZE] = { [NET_HEADER] = 0xff,
                                                            0xff,
                                                            0xff,
                                                            0xff,
                                                            0xff,
                                                            0xff,
                                                            0x52,
                                                            0x54,
                                                            0,
                                                            0x12,
                                                            0x34,
                                                            0x56,
                                                            8,
                                                            6,
                                                            0,
                                                            1,
                                                            8,
                                                            0,
                                                            6,
                                                            4,
                                                            0,
                                                            1,
                                                            0x52,
                                                            0x54,
                                                            0,
                                                            0x12,
                                                            0x34,
                                                            0x56,
                                                            10,
                                                            0,
                                                            2,
                                                            15,
                                                            0,
                                                            0,
                                                            0,
                                                            0,
                                                            0,
                                                            0,
                                                            10,
                                                            0,
                                                            2,
                                                            2 };
    static uint8_t in[2048];
    const uint8_t *frame = in + NET_HEADER;
    struct queue *receive = &net_queues[RECEIVE];
    bool answered = false;

    while (!answered) {
        receive->avail.used_event = receive->seen;
        queue_submit(receive, &(struct request){ .in = in, .in_size = sizeof(in) });
        virtio_notify(&net, RECEIVE);
        do {
            queue_submit(&net_queues[TRANSMIT],
                         &(struct request){ .out = request, .out_size = sizeof(request) });
            virtio_notify(&net, TRANSMIT);
            expect_equal(queue_wait(&net_queues[TRANSMIT], 0), 0);
        } while (!arrives(receive));
        expect(queue_wait(receive, 0) >= NET_HEADER + ARP_SIZE);
        acknowledge(&net);
        answered = frame[12] == 8 && frame[13] == 6 && frame[21] == 2 && frame[31] == 2;
    }
}

/* The shared directory: one file, used like the disk. */
static uint64_t file, handle;
static struct {
    struct fuse_in_header header;
    uint8_t bytes[1024];
} out;
static struct {
    struct fuse_out_header header;
    uint8_t bytes[1024];
} in;

static void call(uint32_t opcode, uint64_t node, uint32_t size)
{
    out.header = (struct fuse_in_header){
        .len = sizeof(out.header) + size, .opcode = opcode, .unique = 7, .nodeid = node
    };
    size = ask(&fs, &fs_queues[FUSE_REQUESTS], FUSE_REQUESTS,
               &(struct request){
                   .out = &out, .out_size = out.header.len, .in = &in, .in_size = sizeof(in) });
    expect_equal(size, in.header.len);
    expect_equal((uint64_t)-in.header.error, 0);
}

static void open_file(void)
{
    const struct fuse_init_in init = { .major = 7, .minor = 31 };
    const struct fuse_create_in create = { .flags = CREATE, .mode = 0100600 };

    memcpy(out.bytes, &init, sizeof(init));
    call(FUSE_INIT, 0, sizeof(init));
    memcpy(out.bytes, &create, sizeof(create));
    memcpy(out.bytes + sizeof(create), "file", 5);
    call(FUSE_CREATE, FUSE_ROOT_ID, sizeof(create) + 5);
    file = ((const struct fuse_entry_out *)(const void *)in.bytes)->nodeid;
    handle =
        ((const struct fuse_open_out *)(const void *)(in.bytes + sizeof(struct fuse_entry_out)))
            ->fh;
}

static void use_fs(uint32_t round)
{
    static uint32_t words[WORDS];
    const struct fuse_write_in write = { .fh = handle,
                                         .offset = round % SECTORS * sizeof(words),
                                         .size = sizeof(words) };
    const struct fuse_read_in read = { .fh = handle,
                                       .offset = round * 7 % SECTORS * sizeof(words),
                                       .size = sizeof(words) };

    pattern(words, round);
    memcpy(out.bytes, &write, sizeof(write));
    memcpy(out.bytes + sizeof(write), words, sizeof(words));
    call(FUSE_WRITE, file, sizeof(write) + sizeof(words));
    memcpy(out.bytes, &read, sizeof(read));
    call(FUSE_READ, file, sizeof(read));
    if (written_in[round * 7 % SECTORS])
        check_sector((const uint32_t *)(const void *)in.bytes, round * 7 % SECTORS);
}

static void use_console(uint32_t round)
{
    static char line[] = "00000000\n";

    for (unsigned i = 8; i-- > 0; round /= 10)
        line[i] = (char)('0' + round % 10);
    ask(&console, &console_queues[TRANSMIT], TRANSMIT,
        &(struct request){ .out = line, .out_size = sizeof(line) - 1 });
}

static bool was_stopped(void)
{
    static char byte;
    static bool asked;

    if (!asked) {
        console_queues[RECEIVE].avail.used_event = UINT16_MAX / 2; /* never: it is polled */
        queue_submit(&console_queues[RECEIVE], &(struct request){ .in = &byte, .in_size = 1 });
        virtio_notify(&console, RECEIVE);
    }
    asked = true;
    return console_queues[RECEIVE].used.idx != 0;
}

int main(void)
{
    bool alone = word_is(0, "alone");
    uint32_t round = 0;

    disk = virtio_find(VIRTIO_ID_BLOCK, 0);
    console = virtio_find(VIRTIO_ID_CONSOLE, 0);
    virtio_start(&disk, ~0ull, &disk_queue, 1);
    virtio_start(&console, ~0ull, console_queues, 2);
    if (!alone) {
        net = virtio_find(VIRTIO_ID_NET, 0);
        fs = virtio_find(VIRTIO_ID_FS, 0);
        rng = virtio_find(VIRTIO_ID_RNG, 0);
        virtio_start(&net, ~0ull, net_queues, 2);
        virtio_start(&fs, ~0ull, fs_queues, 2);
        virtio_start(&rng, ~0ull, &rng_queue, 1);
        open_file();
    }
    start_cpus();
    do {
        use_disk(round);
        use_console(round);
        if (!alone) {
            use_rng();
            use_net();
            use_fs(round);
        }
        round++;
    } while (!was_stopped());
    over = true;
    wait_for(counted && __atomic_load_n(&running, __ATOMIC_SEQ_CST) == 0);
    print("rounds %u\n", round);
    return 0;
}
