/* SPDX-License-Identifier: MIT */
#include "devices/block/format.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vmm/core/base.h"
#include "vmm/core/cleanup.h"
#include "vmm/core/log.h"

#define PIECE  8192 /* bytes read at the start and at the end */
#define ALIGN  4096 /* of what is read: the file may be open for direct I/O */
#define FOOTER 512  /* bytes of the largest structure at the end */

#define CONVERT "convert it with qemu-img convert -O raw"

/* Magic bytes at an offset from the start of the file, or a distance from its end. */
static const struct format {
    const char *kind;
    unsigned at;
    bool from_end;
    unsigned size;
    const char *magic;
    const char *remedy;
} formats[] = {
    { "a qcow2 image", 0, false, 4, "QFI\xfb", CONVERT },
    { "a QED image", 0, false, 4, "QED\0", CONVERT },
    { "a VHD image", 0, false, 8, "conectix", CONVERT },
    { "a VHD image", 512, true, 8, "conectix", CONVERT },
    { "a VHD image", 511, true, 8, "conectix", CONVERT }, /* of early versions */
    { "a VHDX image", 0, false, 8, "vhdxfile", CONVERT },
    { "a VMDK image", 0, false, 4, "KDMV", CONVERT },
    { "a VMDK image", 0, false, 4, "COWD", CONVERT },
    { "a VMDK image", 0, false, 8, "\xbe\xba\xfe\xca\0\0\0\0", CONVERT },
    { "a VMDK descriptor", 0, false, 21, "# Disk DescriptorFile", CONVERT },
    { "a VMDK descriptor", 0, false, 22, "# Disk Descriptor File", CONVERT },
    { "a VDI image", 0x40, false, 4, "\x7f\x10\xda\xbe", CONVERT },
    { "a Parallels image", 0, false, 16, "WithoutFreeSpace", CONVERT },
    { "a Parallels image", 0, false, 16, "WithouFreSpacExt", CONVERT },
    { "a Bochs image", 0, false, 22, "Bochs Virtual HD Image", CONVERT },
    { "a cloop image", 0, false, 23, "#!/bin/sh\n#V2.0 Format\n", CONVERT },
    { "a DMG image", 512, true, 4, "koly", CONVERT },
    { "an Android sparse image", 0, false, 4, "\x3a\xff\x26\xed", "convert it with simg2img" },
    { "compressed by gzip", 0, false, 3, "\x1f\x8b\x08", "unpack it with gunzip" },
    { "compressed by xz", 0, false, 6, "\xfd\x37zXZ\0", "unpack it with unxz" },
    { "compressed by zstd", 0, false, 4, "\x28\xb5\x2f\xfd", "unpack it with unzstd" },
    { "compressed by bzip2", 0, false, 3, "BZh", "unpack it with bunzip2" },
    { "compressed by lz4", 0, false, 4, "\x04\x22\x4d\x18", "unpack it with unlz4" },
    { "a zip archive", 0, false, 4, "PK\3\4", "unpack it with unzip" },
};

/* Bytes of the file: [from, from + size). */
struct piece {
    uint8_t *bytes;
    uint64_t from;
    size_t size;
};

static void format_read(struct piece *piece, int fd, uint64_t from)
{
    ssize_t got;

    do
        got = pread(fd, piece->bytes, PIECE, (off_t)from);
    while (got < 0 && errno == EINTR);
    piece->from = from;
    piece->size = got > 0 ? (size_t)got : 0;
}

static const struct format *format_find(const struct piece *piece, uint64_t file_size,
                                        bool from_end)
{
    for (const struct format *f = formats; f < formats + ARRAY_SIZE(formats); f++) {
        uint64_t at = from_end ? file_size - f->at - piece->from : f->at;

        if (f->from_end == from_end && (!from_end || file_size - piece->from >= f->at) &&
            at <= piece->size && f->size <= piece->size - at &&
            !memcmp(piece->bytes + at, f->magic, f->size))
            return f;
    }
    return NULL;
}

int format_check(int fd, uint64_t size, const char *path)
{
    cleanup_free uint8_t *bytes = aligned_alloc(ALIGN, PIECE);
    struct piece piece = { .bytes = bytes };
    const struct format *found;

    if (!bytes)
        return log_error(ENOMEM, "%s", path);
    format_read(&piece, fd, 0);
    found = format_find(&piece, size, false);
    if (!found) {
        format_read(&piece, fd, size > FOOTER ? align_down(size - FOOTER, ALIGN) : 0);
        found = format_find(&piece, size, true);
    }
    if (!found)
        return 0;
    return log_refuse(
        EINVAL,
        "%s is %s, not a raw disk image: %s, or add format=raw if it is a raw disk to "
        "which a guest wrote that",
        path, found->kind, found->remedy);
}
