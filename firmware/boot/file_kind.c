/* SPDX-License-Identifier: MIT */
#include "firmware/boot/file_kind.h"

#include <ctype.h>
#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#include "firmware/boot/decompress.h"
#include "vmm/core/base.h"
#include "vmm/core/log.h"

#define TEXT_MIN 4 /* bytes: fewer are more likely binary */

#define AS_DISK "give it with --disk, and a kernel with --kernel"

struct file_magic {
    unsigned offset;
    unsigned size;
    const char *magic;
    const char *kind;
    const char *remedy; /* NULL: "name " and what this machine boots */
};

/* The first match counts: an arm64 Image with an EFI stub is a PE program, too. */
static const struct file_magic file_magics[] = {
    { 0x202, 4, "HdrS", "an x86 kernel", NULL },
    { 56, 4, "ARM\x64", "an arm64 kernel", NULL },
    { 48, 4, "RSC\x05", "a RISC-V kernel", NULL },
    { 4, 4, "zimg", "a compressed EFI kernel of another architecture", NULL },
    { 0, 4, "\x7f\x45LF", "an ELF program", NULL },
    { 0, sizeof(GZIP_MAGIC) - 1, GZIP_MAGIC, "a gzip file", "unpack it with gunzip" },
    { 0, sizeof(XZ_MAGIC) - 1, XZ_MAGIC, "an xz file", "unpack it with unxz" },
    { 0, sizeof(ZSTD_MAGIC) - 1, ZSTD_MAGIC, "a zstd file", "unpack it with unzstd" },
    { 0, 4, "\x02\x21\x4c\x18", "an lz4 file", "unpack it with unlz4" },
    { 0, 4, "\x04\x22\x4d\x18", "an lz4 file", "unpack it with unlz4" },
    { 0, 3, "BZh", "a bzip2 file", "unpack it with bunzip2" },
    { 0, 5, "07070", "a cpio archive", "give it with --initrd, and a kernel with --kernel" },
    { 0, 8, "!<arch>\n", "an archive",
      "if it is a Debian package, unpack the kernel with dpkg -x" },
    { 0, 4, "\xed\xab\xee\xdb", "an RPM package", "unpack the kernel with rpm2cpio" },
    { 0, 4, "QFI\xfb", "a qcow2 disk image",
      "convert it with qemu-img convert -O raw, and give it with --disk" },
    { 0, 4, "\x27\x05\x19\x56", "a U-Boot image", "name the kernel inside" },
    { 0, 4, "\xd0\x0d\xfe\xed", "a device tree or FIT image", NULL },
    { 0, 2, "MZ", "an EFI or Windows program without a Linux boot header", NULL },
    { 0x438, 2, "\x53\xef", "an ext4 file system", AS_DISK },
    { 0, 4, "hsqs", "a squashfs file system", AS_DISK },
    { 510, 2, "\x55\xaa", "a boot sector or disk image", AS_DISK },
};

/* A few printable bytes, and after them at most the padding of a short file. */
static bool file_kind_is_text(const uint8_t *head)
{
    size_t length = strnlen((const char *)head, FILE_KIND_HEAD);

    for (size_t i = 0; i < FILE_KIND_HEAD; i++)
        if (i < length ? !isprint(head[i]) && !isspace(head[i]) : head[i])
            return false;
    return length >= TEXT_MIN;
}

static const struct file_magic *file_kind_find(const uint8_t *head)
{
    static const struct file_magic text = { .kind = "a text file" };
    static const struct file_magic unknown = {
        .kind = "not a known kernel format, and raw binaries are refused"
    };

    for (unsigned i = 0; i < ARRAY_SIZE(file_magics); i++)
        if (!memcmp(head + file_magics[i].offset, file_magics[i].magic, file_magics[i].size))
            return &file_magics[i];
    return file_kind_is_text(head) ? &text : &unknown;
}

int file_kind_refuse(const char *path, const uint8_t head[FILE_KIND_HEAD], const char *wanted)
{
    const struct file_magic *file = file_kind_find(head);

    if (file->remedy)
        return log_refuse(EINVAL, "%s is %s; %s", path, file->kind, file->remedy);
    return log_refuse(EINVAL, "%s is %s; name %s", path, file->kind, wanted);
}
