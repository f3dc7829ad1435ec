/* SPDX-License-Identifier: MIT */

/* Valid requests in every framing, and each kind of invalid one, to a disk of SECTORS. */
#include <linux/virtio_blk.h>

#include "lib/virtio.h"

#define SECTOR  512u
#define SECTORS 2048u
#define MAX     (2 * SECTOR)
#define UNSET   0xff

static struct virtio disk;
static struct queue q;

/* A request and its answer, to be cut into descriptors. */
static struct {
    struct virtio_blk_outhdr header;
    uint8_t data[MAX];
} out;
static struct {
    uint8_t data[MAX + 1]; /* the status follows the data */
} in;

/* Cuts `size` bytes into descriptors of `piece` bytes. Returns the next free index. */
static unsigned describe(unsigned at, volatile void *bytes, uint32_t size, uint32_t piece,
                         unsigned flags)
{
    for (uint32_t done = 0; done < size; at++) {
        uint32_t part = size - done < piece ? size - done : piece;

        expect(at < QUEUE_SIZE);
        queue_describe(&q, at, (volatile uint8_t *)bytes + done, part, flags | VRING_DESC_F_NEXT,
                       at + 1);
        done += part;
    }
    return at;
}

/* Sends `out_size` bytes of `out`, receives into `in`. Returns the bytes written. */
static uint32_t send(uint32_t out_size, uint32_t in_size, uint32_t piece)
{
    unsigned count;

    memset(&in, UNSET, in_size);
    count = describe(0, &out, out_size, piece, 0);
    count = describe(count, &in, in_size, piece, VRING_DESC_F_WRITE);
    q.desc[count - 1].flags &= (uint16_t)~VRING_DESC_F_NEXT;
    queue_offer(&q, 0);
    virtio_notify(&disk, 0);
    return queue_wait(&q, 0);
}

/* Makes a request and returns its status. */
static uint8_t request(uint32_t type, uint64_t sector, uint32_t out_data, uint32_t in_data,
                       uint32_t piece)
{
    uint32_t written;

    out.header = (struct virtio_blk_outhdr){ .type = type, .sector = sector };
    written = send(sizeof(out.header) + out_data, in_data + 1, piece);
    expect(written >= 1 && written <= in_data + 1);
    if (in.data[in_data] == VIRTIO_BLK_S_OK)
        expect_equal(written, in_data + 1);
    return in.data[in_data];
}

static void fill(uint8_t seed)
{
    for (unsigned i = 0; i < MAX; i++)
        out.data[i] = (uint8_t)(seed + i * 7);
}

/* Framing has no meaning: two sectors are written in one framing and read in another. */
static void any_framing(void)
{
    static const uint32_t pieces[] = { MAX + 64, 100, SECTOR, 99 };

    for (unsigned i = 0; i < ARRAY_SIZE(pieces); i++) {
        fill((uint8_t)i);
        expect_equal(request(VIRTIO_BLK_T_OUT, 4 * i, MAX, 0, pieces[i]), VIRTIO_BLK_S_OK);
        expect_equal(request(VIRTIO_BLK_T_FLUSH, 0, 0, 0, 5), VIRTIO_BLK_S_OK);
        expect_equal(request(VIRTIO_BLK_T_IN, 4 * i, 0, MAX, pieces[3 - i]), VIRTIO_BLK_S_OK);
        expect(!memcmp(in.data, out.data, MAX));
    }
}

static const struct refused {
    const char *name;
    uint32_t type;
    uint64_t sector;
    uint32_t out, in; /* bytes of data */
    uint8_t status;
} refused[] = {
    { "read_past_the_end", VIRTIO_BLK_T_IN, SECTORS, 0, SECTOR, VIRTIO_BLK_S_IOERR },
    { "read_across_the_end", VIRTIO_BLK_T_IN, SECTORS - 1, 0, 2 * SECTOR, VIRTIO_BLK_S_IOERR },
    { "write_past_the_end", VIRTIO_BLK_T_OUT, SECTORS, SECTOR, 0, VIRTIO_BLK_S_IOERR },
    { "write_across_the_end", VIRTIO_BLK_T_OUT, SECTORS - 1, 2 * SECTOR, 0, VIRTIO_BLK_S_IOERR },
    { "sector_overflow", VIRTIO_BLK_T_OUT, 1ull << 55, SECTOR, 0, VIRTIO_BLK_S_IOERR },
    { "largest_sector", VIRTIO_BLK_T_OUT, ~0ull, SECTOR, 0, VIRTIO_BLK_S_IOERR },
    { "length_no_multiple_of_512", VIRTIO_BLK_T_IN, 0, 0, 100, VIRTIO_BLK_S_IOERR },
    { "write_of_odd_length", VIRTIO_BLK_T_OUT, 0, SECTOR + 1, 0, VIRTIO_BLK_S_IOERR },
    { "unknown_type", 0x1234, 0, 0, SECTOR, VIRTIO_BLK_S_UNSUPP },
    { "scsi_command", VIRTIO_BLK_T_IN | 2, 0, 0, SECTOR, VIRTIO_BLK_S_UNSUPP },
    { "discard_without_range", VIRTIO_BLK_T_DISCARD, 0, 0, 0, VIRTIO_BLK_S_IOERR },
};

static void refuse(void)
{
    for (unsigned i = 0; i < ARRAY_SIZE(refused); i++) {
        const struct refused *bad = &refused[i];

        expect_equal(request(bad->type, bad->sector, bad->out, bad->in, MAX), bad->status);
        print("ok %s\n", bad->name);
    }
}

/* Without room for a status the buffers just come back. */
static void malformed(void)
{
    out.header = (struct virtio_blk_outhdr){ .type = VIRTIO_BLK_T_OUT };
    expect_equal(send(sizeof(out.header) + SECTOR, 0, MAX), 0);
    print("ok status_byte_missing\n");

    expect_equal(send(sizeof(out.header) - 1, 1, MAX), 1);
    expect_equal(in.data[0], VIRTIO_BLK_S_IOERR);
    print("ok header_too_short\n");

    expect_equal(send(0, 1, MAX), 1);
    expect_equal(in.data[0], VIRTIO_BLK_S_IOERR);
    print("ok header_missing\n");

    expect_equal(request(VIRTIO_BLK_T_IN, 0, 0, 0, MAX), VIRTIO_BLK_S_OK);
    expect_equal(request(VIRTIO_BLK_T_OUT, 0, 0, 0, MAX), VIRTIO_BLK_S_OK);
    print("ok zero_length_data\n");
}

static uint8_t clear(uint32_t type, uint64_t sector, uint32_t count, uint32_t flags)
{
    struct virtio_blk_discard_write_zeroes range = { .sector = sector,
                                                     .num_sectors = count,
                                                     .flags = flags };

    memcpy(out.data, &range, sizeof(range));
    return request(type, 0, sizeof(range), 0, MAX);
}

static void clears(void)
{
    expect_equal(clear(VIRTIO_BLK_T_WRITE_ZEROES, SECTORS - 1, 2, 0), VIRTIO_BLK_S_IOERR);
    expect_equal(clear(VIRTIO_BLK_T_WRITE_ZEROES, ~0ull, 2, 0), VIRTIO_BLK_S_IOERR);
    expect_equal(clear(VIRTIO_BLK_T_DISCARD, SECTORS, 1, 0), VIRTIO_BLK_S_IOERR);
    expect_equal(clear(VIRTIO_BLK_T_WRITE_ZEROES, 0, 1, 2), VIRTIO_BLK_S_UNSUPP);
    expect_equal(clear(VIRTIO_BLK_T_DISCARD, 0, 1, 1), VIRTIO_BLK_S_UNSUPP);
    expect_equal(clear(VIRTIO_BLK_T_WRITE_ZEROES, 0, 1, 1), VIRTIO_BLK_S_OK);
    expect_equal(request(VIRTIO_BLK_T_IN, 0, 0, 2 * SECTOR, MAX), VIRTIO_BLK_S_OK);
    for (unsigned i = 0; i < SECTOR; i++)
        expect_equal(in.data[i], 0);
    expect(in.data[SECTOR + 1]); /* the next sector is unchanged */
    print("ok discard_and_write_zeroes\n");
}

/* Flushes are slow: none may write its status after a reset. */
static void reset_with_io_in_flight(void)
{
    static struct virtio_blk_outhdr flush = { .type = VIRTIO_BLK_T_FLUSH };
    static volatile uint8_t status[QUEUE_SIZE / 2];

    for (unsigned round = 0; round < 20; round++) {
        for (unsigned i = 0; i < ARRAY_SIZE(status); i++) {
            queue_describe(&q, 2 * i, &flush, sizeof(flush), VRING_DESC_F_NEXT, 2 * i + 1);
            queue_describe(&q, 2 * i + 1, &status[i], 1, VRING_DESC_F_WRITE, 0);
            queue_offer(&q, 2 * i);
        }
        virtio_notify(&disk, 0);
        virtio_reset(&disk);
        for (unsigned i = 0; i < ARRAY_SIZE(status); i++)
            status[i] = UNSET;
        for (uint64_t end = platform_ms() + 5; platform_ms() < end;)
            platform_relax();
        for (unsigned i = 0; i < ARRAY_SIZE(status); i++)
            expect_equal(status[i], UNSET);
        virtio_start(&disk, ~0ull, &q, 1);
    }
    print("ok reset_with_io_in_flight\n");
}

static void read_only(void)
{
    expect(virtio_device_features(&disk) & 1ull << VIRTIO_BLK_F_RO);
    expect_equal(request(VIRTIO_BLK_T_IN, 0, 0, SECTOR, MAX), VIRTIO_BLK_S_OK);
    expect_equal(request(VIRTIO_BLK_T_OUT, 0, SECTOR, 0, MAX), VIRTIO_BLK_S_IOERR);
    expect_equal(clear(VIRTIO_BLK_T_WRITE_ZEROES, 0, 1, 0), VIRTIO_BLK_S_IOERR);
    print("ok write_to_a_read_only_disk\n");
}

/* Command line: "read-only" or "". */
int main(void)
{
    disk = virtio_find(VIRTIO_ID_BLOCK, 0);
    virtio_start(&disk, ~0ull, &q, 1);
    expect_equal(platform_read(disk.base + VIRTIO_MMIO_CONFIG, 8), SECTORS);
    if (word_is(0, "read-only")) {
        read_only();
        return 0;
    }
    any_framing();
    refuse();
    malformed();
    clears();
    reset_with_io_in_flight();
    any_framing();
    return 0;
}
