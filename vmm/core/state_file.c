/* SPDX-License-Identifier: MIT */
#include "vmm/core/state_file.h"

#include <elf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "settings.h"
#include "vmm/core/base.h"
#include "vmm/core/cleanup.h"
#include "vmm/core/endian.h"
#include "vmm/core/log.h"
#include "vmm/core/state.h"

#define FORMAT       1
#define MAX_FILE     (64 * MIB)
#define MAX_SECTIONS 4096

static const char state_magic[8] = "MINIVMM";

struct header {
    char magic[sizeof(state_magic)];
    le32 format, machine;
    le64 length;
    uint8_t id[SNAPSHOT_ID_SIZE];
    le32 sections;
    le32 checksum;
};

uint32_t crc32c(const void *bytes, size_t count)
{
    const uint32_t polynomial = 0x82f63b78; /* reflected */
    const uint8_t *at = bytes;
    uint32_t table[256], crc = ~0u;

    for (uint32_t i = 0; i < 256; i++) {
        table[i] = i;
        for (unsigned bit = 0; bit < 8; bit++)
            table[i] = table[i] >> 1 ^ (table[i] & 1 ? polynomial : 0);
    }
    while (count-- > 0)
        crc = crc >> 8 ^ table[(crc ^ *at++) & 0xff];
    return ~crc;
}

/* The size of the section at `at`, with its length field. 0: it does not fit into `left` bytes. */
static size_t section_size(const uint8_t *at, size_t left)
{
    le32 length;
    size_t size;

    if (left < sizeof(length))
        return 0;
    memcpy(&length, at, sizeof(length));
    size = sizeof(length) + (size_t)le32_load(&length);
    return size <= left ? size : 0;
}

static unsigned count_sections(const uint8_t *bytes, size_t size)
{
    unsigned count = 0;

    for (size_t at = 0; at < size; count++)
        at += section_size(bytes + at, size - at);
    return count;
}

int state_file_write(int file, const struct state *s, const uint8_t id[SNAPSHOT_ID_SIZE])
{
    unsigned count = count_sections(s->bytes, s->at);
    cleanup_free le32 *checksums = calloc(count, sizeof(*checksums));
    struct header header = { .magic = "" };
    const size_t length = sizeof(header) + s->at + count * sizeof(*checksums);
    const struct iovec parts[] = { { &header, sizeof(header) },
                                   { s->bytes, s->at },
                                   { checksums, count * sizeof(*checksums) } };
    size_t at = 0;
    ssize_t done;

    if (!checksums)
        return -ENOMEM;
    if (length > MAX_FILE || count > MAX_SECTIONS)
        return -EFBIG; /* it could not be read */
    for (unsigned i = 0; i < count; i++) {
        size_t size = section_size(s->bytes + at, s->at - at);

        le32_store(&checksums[i], crc32c(s->bytes + at, size));
        at += size;
    }
    memcpy(header.magic, state_magic, sizeof(state_magic));
    le32_store(&header.format, FORMAT);
    le32_store(&header.machine, HOST_ELF_MACHINE);
    le64_store(&header.length, length);
    memcpy(header.id, id, SNAPSHOT_ID_SIZE);
    le32_store(&header.sections, count);
    le32_store(&header.checksum, crc32c(&header, offsetof(struct header, checksum)));
    done = pwritev2(file, parts, ARRAY_SIZE(parts), 0, 0);
    return done < 0 ? -errno : (size_t)done < length ? -ENOSPC : 0;
}

bool state_file_is(int file)
{
    char magic[sizeof(state_magic)];

    return pread(file, magic, sizeof(magic), 0) == sizeof(magic) &&
           memcmp(magic, state_magic, sizeof(magic)) == 0;
}

static int state_file_load(int file, const char *name, struct state_file *ret, size_t *ret_size)
{
    struct stat st;
    ssize_t got;

    if (fstat(file, &st) < 0)
        return log_error(errno, "%s", name);
    if (!S_ISREG(st.st_mode) || (uint64_t)st.st_size > MAX_FILE)
        return log_refuse(EINVAL, "%s: not the state of a machine", name);
    ret->bytes = malloc((size_t)st.st_size + 1);
    if (!ret->bytes)
        return log_error(ENOMEM, "%s", name);
    got = pread(file, ret->bytes, (size_t)st.st_size, 0);
    if (got < 0)
        return log_error(errno, "%s", name);
    *ret_size = (size_t)got;
    return 0;
}

static int check_header(const struct header *header, size_t size, const char *name)
{
    if (memcmp(header->magic, state_magic, sizeof(state_magic)) != 0)
        return log_refuse(EINVAL, "%s: not the state of a machine", name);
    if (le32_load(&header->format) > FORMAT)
        return log_refuse(EINVAL, "%s: made by a newer minivmm (format %u; this one knows %u)",
                          name, le32_load(&header->format), FORMAT);
    if (le32_load(&header->machine) != HOST_ELF_MACHINE)
        return log_refuse(EINVAL, "%s: made on another architecture", name);
    if (le32_load(&header->checksum) != crc32c(header, offsetof(struct header, checksum)))
        return log_refuse(EINVAL, "%s: damaged", name);
    if (le64_load(&header->length) != size)
        return log_refuse(EINVAL, "%s: %zu bytes of %llu are left", name, size,
                          (unsigned long long)le64_load(&header->length));
    return 0;
}

/* Finds the end of the sections, and compares the checksums after them. */
static int check_sections(struct state_file *f, size_t left, unsigned count, const char *name)
{
    const uint8_t *at = f->sections;
    const size_t checksums = count * sizeof(le32);

    if (count > MAX_SECTIONS || checksums > left)
        return log_refuse(EINVAL, "%s: damaged", name);
    left -= checksums;
    f->size = left;
    for (unsigned i = 0; i < count; i++) {
        size_t size = section_size(at, left);
        le32 checksum;

        memcpy(&checksum, f->sections + f->size + i * sizeof(checksum), sizeof(checksum));
        if (size == 0 || le32_load(&checksum) != crc32c(at, size))
            return log_refuse(EINVAL, "%s: damaged, in section %u", name, i + 1);
        at += size;
        left -= size;
    }
    return left ? log_refuse(EINVAL, "%s: damaged", name) : 0;
}

int state_file_read(int file, const char *name, struct state_file *ret)
{
    struct header header;
    size_t size = 0;
    int error;

    *ret = (struct state_file){ 0 };
    error = state_file_load(file, name, ret, &size);
    if (error)
        return error;
    if (size < sizeof(header))
        return log_refuse(EINVAL, "%s: not the state of a machine", name);
    memcpy(&header, ret->bytes, sizeof(header));
    error = check_header(&header, size, name);
    if (error)
        return error;
    ret->sections = ret->bytes + sizeof(header);
    memcpy(ret->id, header.id, SNAPSHOT_ID_SIZE);
    return check_sections(ret, size - sizeof(header), le32_load(&header.sections), name);
}

void state_file_free(struct state_file *f)
{
    free(f->bytes);
    *f = (struct state_file){ 0 };
}
