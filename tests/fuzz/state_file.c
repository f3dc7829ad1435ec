/* SPDX-License-Identifier: MIT */

/*
 * A file given as a snapshot's state. The input is the file; or, if its first byte is odd, what
 * follows the header, and the header and all checksums are right. Whatever is accepted is stepped
 * through, and its first section loaded as a configuration.
 */
#include "vmm/core/state_file.h"

#include <elf.h>
#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "settings.h"
#include "tests/fuzz/fuzz.h"
#include "vmm/config/config.h"
#include "vmm/config/config_state.h"
#include "vmm/core/endian.h"
#include "vmm/core/log.h"
#include "vmm/core/state.h"

#define HEADER   48 /* bytes */
#define SECTIONS 64 /* at most, of a file that is made */

static uint32_t length_at(const uint8_t *at)
{
    le32 length;

    memcpy(&length, at, sizeof(length));
    return le32_load(&length);
}

static void put32(uint8_t *at, uint32_t value)
{
    le32 bytes;

    le32_store(&bytes, value);
    memcpy(at, &bytes, sizeof(bytes));
}

/* Makes the header and checksums of a file; `bytes` has room for them. Returns its size. */
static size_t make_file(uint8_t *bytes, size_t size)
{
    size_t sections[SECTIONS + 1] = { HEADER }, at = HEADER;
    uint32_t count = 0;

    while (count < SECTIONS && size - at >= 4 && length_at(bytes + at) <= size - at - 4) {
        at += 4 + length_at(bytes + at);
        sections[++count] = at;
    }
    size = at;
    for (uint32_t i = 0; i < count; i++, size += 4)
        put32(bytes + size, crc32c(bytes + sections[i], sections[i + 1] - sections[i]));
    memcpy(bytes, "MINIVMM", 8);
    put32(bytes + 8, 1);
    put32(bytes + 12, HOST_ELF_MACHINE);
    put32(bytes + 16, (uint32_t)size);
    put32(bytes + 20, 0);
    memset(bytes + 24, 'i', 16);
    put32(bytes + 40, count);
    put32(bytes + 44, crc32c(bytes, 44));
    return size;
}

static void step_through(const struct state_file *file)
{
    struct state_item item;
    struct state s;
    size_t steps = 0;

    state_begin_load(&s, file->sections, file->size);
    while (state_next(&s, &item) > 0) {
        demand(item.name && steps++ <= file->size);
        demand(!item.bytes || (item.bytes >= file->sections &&
                               item.bytes + item.size <= file->sections + file->size));
    }
    state_finish(&s);
}

static void load_config(const struct state_file *file)
{
    struct config config;
    struct state s;

    demand(config_set_defaults(&config) == 0);
    state_begin_load(&s, file->sections, file->size);
    config_state(&config, &s);
    state_finish(&s);
    config_finish(&config);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint8_t bytes[HEADER + 65536 + 4 * SECTIONS];
    static int fd = -1;
    struct state_file file;
    int error;

    log_set_level(LOG_LEVEL_ERROR);
    log_expect_errors(true);
    if (fd < 0)
        demand((fd = memfd_create("state", MFD_CLOEXEC)) >= 0);
    if (size == 0 || size > 65536)
        return 0;
    memcpy(bytes + HEADER, data + 1, size - 1);
    if (data[0] & 1)
        size = make_file(bytes, HEADER + size - 1);
    else
        memmove(bytes, bytes + HEADER, --size);
    demand(ftruncate(fd, 0) == 0 && pwrite(fd, bytes, size, 0) == (ssize_t)size);
    error = state_file_read(fd, "state", &file);
    demand(error == 0 || error == -EINVAL);
    if (!error) {
        demand(file.sections + file.size <= file.bytes + size && state_file_is(fd));
        step_through(&file);
        load_config(&file);
    }
    state_file_free(&file);
    return 0;
}
