/* SPDX-License-Identifier: MIT */
#include "devices/virtio/virtq.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "vmm/core/base.h"
#include "vmm/core/endian.h"

/* Virtio 1.2, 2.7: the split virtqueue as it lies in guest memory. */
struct virtq_desc {
    le64 addr;
    le32 len;
    le16 flags;
    le16 next;
};
struct virtq_avail {
    le16 flags;
    le16 idx;
    le16 ring[];
};
struct virtq_used_elem {
    le32 id;
    le32 len;
};
struct virtq_used {
    le16 flags;
    le16 idx;
    struct virtq_used_elem ring[];
};

enum { DESC_NEXT = 1 << 0, DESC_WRITE = 1 << 1, DESC_INDIRECT = 1 << 2 };
enum { AVAIL_NO_INTERRUPT = 1 << 0 };

struct virtq {
    const struct guest_memory *mem;
    const struct virtq_owner_ops *ops;
    void *owner;

    struct virtq_layout layout;
    struct virtq_desc *desc; /* NULL unless started */
    struct virtq_avail *avail;
    struct virtq_used *used;

    uint16_t next_avail; /* these run freely and wrap at 2^16 */
    uint16_t next_used;
    uint16_t flushed;   /* used->idx as last published */
    uint16_t in_flight; /* popped and not yet pushed: at most the queue's size */
    bool paused;
    uint64_t completed; /* for statistics */
};

/* EVENT_IDX: behind its own ring each side writes the index at which it wants to be notified. */
static le16 *virtq_used_event(struct virtq *q)
{
    return &q->avail->ring[q->layout.size];
}

static le16 *virtq_avail_event(struct virtq *q)
{
    return (le16 *)&q->used->ring[q->layout.size];
}

struct virtq *virtq_create(const struct guest_memory *mem, const struct virtq_owner_ops *ops,
                           void *owner)
{
    struct virtq *q = calloc(1, sizeof(*q));

    if (q)
        *q = (struct virtq){ .mem = mem, .ops = ops, .owner = owner };
    return q;
}

void virtq_destroy(struct virtq *q)
{
    free(q);
}

int virtq_start(struct virtq *q, const struct virtq_layout *layout)
{
    size_t n = layout->size;
    struct virtq_avail *avail;
    struct virtq_used *used;
    struct virtq_desc *desc;

    if (n == 0 || n > VIRTQ_MAX_SIZE || (n & (n - 1)))
        return -EINVAL;
    if (layout->desc % 16 || layout->avail % 2 || layout->used % 4)
        return -EINVAL;

    desc = guest_ptr(q->mem, layout->desc, n * sizeof(*desc));
    avail = guest_ptr(q->mem, layout->avail, sizeof(*avail) + (n + 1) * sizeof(le16));
    used = guest_ptr(q->mem, layout->used, sizeof(*used) + n * sizeof(*used->ring) + sizeof(le16));
    if (!desc || !avail || !used)
        return -EFAULT;

    q->layout = *layout;
    q->desc = desc;
    q->avail = avail;
    q->used = used;
    q->next_avail = q->next_used = q->flushed = q->in_flight = 0;
    q->paused = false;
    return 0;
}

void virtq_stop(struct virtq *q)
{
    q->desc = NULL;
}

bool virtq_started(const struct virtq *q)
{
    return q->desc;
}

struct virtq_rings virtq_rings(const struct virtq *q)
{
    return (struct virtq_rings){ q->desc, q->avail, q->used };
}

void virtq_break(struct virtq *q, const char *why)
{
    if (!q->desc)
        return;
    virtq_stop(q);
    q->ops->broken(q->owner, q, why);
}

/* The state of a walk through one chain. */
struct virtq_walk {
    const struct virtq_desc *table;
    unsigned table_size; /* entries */
    unsigned index;
    unsigned readable, writable; /* buffers so far */
    bool indirect;
};

/* Continues the walk in an indirect table. NULL, or what is wrong with the table. */
static const char *virtq_enter_indirect(const struct virtq *q, struct virtq_walk *walk, gpa_t addr,
                                        uint32_t len)
{
    if (!q->layout.indirect)
        return "indirect table without the feature";
    /* Virtio 1.2, 2.7.5.3: tables may not be nested, but buffers may precede one. */
    if (walk->indirect)
        return "nested indirect table";
    if (len == 0 || len % sizeof(struct virtq_desc) || addr % _Alignof(struct virtq_desc))
        return "indirect table of bad length or alignment";

    walk->table = guest_ptr(q->mem, addr, len);
    if (!walk->table)
        return "indirect table outside RAM";
    walk->table_size = len / sizeof(struct virtq_desc);
    walk->index = 0;
    walk->indirect = true;
    return NULL;
}

/* Adds one buffer to the chain. NULL, or what is wrong with the buffer. */
static const char *virtq_add_buffer(const struct virtq *q, struct virtq_walk *walk,
                                    struct virtq_chain *chain, gpa_t addr, uint32_t len,
                                    bool writable)
{
    unsigned count = walk->readable + walk->writable;
    void *host = guest_ptr(q->mem, addr, len);

    if (!host)
        return "buffer outside RAM";
    if (count == q->layout.size)
        return "chain longer than the queue";
    if (writable)
        walk->writable++;
    else if (walk->writable)
        return "readable buffer after a writable one";
    else
        walk->readable++;

    chain->iov[count] = (struct iovec){ host, len };
    (writable ? &chain->writable : &chain->readable)->length += len;
    return NULL;
}

/* Walks the chain that starts at chain->head and fills it in. NULL, or what is wrong with it. */
static const char *virtq_read_chain(const struct virtq *q, struct virtq_chain *chain)
{
    struct virtq_walk walk = { q->desc, q->layout.size, chain->head, 0, 0, false };
    const char *fault;
    uint16_t flags;

    chain->readable = chain->writable = (struct sg){ .iov = chain->iov };
    do {
        const struct virtq_desc *desc;
        uint32_t len;
        gpa_t addr;

        if (walk.index >= walk.table_size)
            return "descriptor index out of range";
        desc = &walk.table[walk.index];
        addr = le64_load(&desc->addr);
        len = le32_load(&desc->len);
        flags = le16_load(&desc->flags);
        walk.index = le16_load(&desc->next);

        if (!(flags & DESC_INDIRECT)) {
            fault = virtq_add_buffer(q, &walk, chain, addr, len, flags & DESC_WRITE);
        } else if (flags & DESC_NEXT) {
            fault = "indirect table with a next descriptor";
        } else {
            fault = virtq_enter_indirect(q, &walk, addr, len);
            flags = DESC_NEXT;
        }
        if (fault)
            return fault;
    } while (flags & DESC_NEXT);

    chain->writable.iov = &chain->iov[walk.readable];
    return NULL;
}

bool virtq_pop(struct virtq *q, struct virtq_chain *chain)
{
    const char *fault;
    uint16_t waiting;

    if (!q->desc || q->paused)
        return false;

    waiting = le16_load_acquire(&q->avail->idx) - q->next_avail;
    if (waiting == 0)
        return false;

    if (waiting > q->layout.size || q->in_flight == q->layout.size) {
        fault = "more requests than entries";
    } else {
        chain->head = le16_load(&q->avail->ring[q->next_avail & (q->layout.size - 1)]);
        fault = virtq_read_chain(q, chain);
    }
    if (fault) {
        virtq_break(q, fault);
        return false;
    }

    q->next_avail++;
    q->in_flight++;
    return true;
}

unsigned virtq_waiting(const struct virtq *q)
{
    uint16_t waiting =
        q->desc && !q->paused ? le16_load_acquire(&q->avail->idx) - q->next_avail : 0;

    return waiting < q->layout.size ? waiting : q->layout.size;
}

void virtq_rewind(struct virtq *q, unsigned count)
{
    if (!q->desc)
        return; /* it broke since the pop */
    assert(count <= q->in_flight);
    q->next_avail -= (uint16_t)count;
    q->in_flight -= (uint16_t)count;
}

void virtq_push(struct virtq *q, const struct virtq_chain *chain, uint32_t written)
{
    virtq_push_head(q, chain->head, written);
}

void virtq_push_head(struct virtq *q, uint16_t head, uint32_t written)
{
    struct virtq_used_elem *elem;

    if (!q->desc)
        return; /* it broke while the request was in flight */
    q->in_flight--;
    q->completed++;
    elem = &q->used->ring[q->next_used++ & (q->layout.size - 1)];
    le32_store(&elem->id, head);
    le32_store(&elem->len, written);
}

uint64_t virtq_completed(const struct virtq *q)
{
    return q->completed;
}

/* Does the driver want an interrupt for the used entries [from, to)? */
static bool virtq_wants_interrupt(struct virtq *q, uint16_t from, uint16_t to)
{
    if (!q->layout.event_idx)
        return !(le16_load(&q->avail->flags) & AVAIL_NO_INTERRUPT);
    return (uint16_t)(to - le16_load(virtq_used_event(q)) - 1) < (uint16_t)(to - from);
}

void virtq_flush(struct virtq *q)
{
    uint16_t from = q->flushed;

    if (!q->desc || q->next_used == from)
        return;

    le16_store_release(&q->used->idx, q->next_used);
    q->flushed = q->next_used;
    __atomic_thread_fence(__ATOMIC_SEQ_CST); /* publish used->idx before reading used_event */
    if (virtq_wants_interrupt(q, from, q->flushed))
        q->ops->interrupt(q->owner, q);
}

bool virtq_enable_notification(struct virtq *q)
{
    if (!q->desc || q->paused)
        return true;

    if (q->layout.event_idx)
        le16_store(virtq_avail_event(q), q->next_avail);
    __atomic_thread_fence(__ATOMIC_SEQ_CST); /* publish avail_event before reading avail->idx */
    return le16_load(&q->avail->idx) == q->next_avail;
}

void virtq_disable_notification(struct virtq *q)
{
    if (q->desc && !q->paused && q->layout.event_idx &&
        le16_load(virtq_avail_event(q)) == q->next_avail)
        le16_store(virtq_avail_event(q), q->next_avail - 1);
}

void virtq_pause(struct virtq *q)
{
    assert(!q->desc || q->in_flight == 0);
    virtq_flush(q);
    q->paused = true;
}

void virtq_resume(struct virtq *q)
{
    q->paused = false;
}

struct virtq_position virtq_position(const struct virtq *q)
{
    return (struct virtq_position){ q->next_avail, q->next_used };
}

void virtq_set_position(struct virtq *q, struct virtq_position position)
{
    q->next_avail = position.next_avail;
    q->next_used = q->flushed = position.next_used;
}

void virtq_adopt(struct virtq *q, uint16_t next_avail)
{
    const struct virtq_position position = { next_avail, le16_load(&q->used->idx) };

    virtq_set_position(q, position);
}
