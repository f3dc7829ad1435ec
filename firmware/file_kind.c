/* SPDX-License-Identifier: MIT */
#include "firmware/file_kind.h"

#include <ctype.h>
#include <stdbool.h>
#include <string.h>

#include "vmm/base.h"

struct file_magic {
    unsigned offset;
    unsigned size;
    const char *magic;
    const char *kind;
};

/* The first match counts: an arm64 Image with an EFI stub is a PE program too. */
static const struct file_magic file_magics[] = {
    { 56, 4, "ARM\x64", "an arm64 kernel; this machine needs one for x86_64" },
    { 48, 4, "RSC\x05", "a RISC-V kernel; this machine needs one for x86_64" },
    { 4, 4, "zimg", "a compressed EFI kernel for another architecture; name a bzImage for x86_64" },
    { 0, 2, "\x1f\x8b", "a gzip file; unpack it with gunzip" },
    { 0, 6,
      "\xfd"
      "7zXZ",
      "an xz file; unpack it with unxz" },
    { 0, 4, "\x28\xb5\x2f\xfd", "a zstd file; unpack it with unzstd" },
    { 0, 4, "\x02\x21\x4c\x18", "an lz4 file; unpack it with unlz4" },
    { 0, 4, "\x04\x22\x4d\x18", "an lz4 file; unpack it with unlz4" },
    { 0, 3, "BZh", "a bzip2 file; unpack it with bunzip2" },
    { 0, 5, "07070", "a cpio archive; give it with --initrd, and a kernel with --kernel" },
    { 0, 8, "!<arch>\n", "an archive; if a Debian package, unpack the kernel with dpkg -x" },
    { 0, 4, "\xed\xab\xee\xdb", "an RPM package; unpack the kernel with rpm2cpio" },
    { 0, 4, "QFI\xfb", "a qcow2 disk image; give it with --disk, and a kernel with --kernel" },
    { 0, 4, "\x27\x05\x19\x56", "a U-Boot image; name the bzImage or vmlinux inside" },
    { 0, 4, "\xd0\x0d\xfe\xed", "a device tree or FIT image; name a bzImage or vmlinux" },
    { 0, 2, "MZ", "an EFI or Windows program without a Linux boot header; name a bzImage" },
    { 0x438, 2, "\x53\xef",
      "an ext4 file system; give it with --disk, and a kernel with --kernel" },
    { 0, 4, "hsqs", "a squashfs file system; give it with --disk, and a kernel with --kernel" },
    { 510, 2, "\x55\xaa", "a boot sector or disk image; give it with --disk" },
};

static bool file_is_text(const uint8_t *head)
{
    for (unsigned i = 0; i < 64 && (i == 0 || head[i]); i++)
        if (!isprint(head[i]) && !isspace(head[i]))
            return false;
    return true;
}

const char *file_kind(const uint8_t head[FILE_KIND_HEAD])
{
    for (unsigned i = 0; i < ARRAY_SIZE(file_magics); i++) {
        const struct file_magic *m = &file_magics[i];

        if (!memcmp(head + m->offset, m->magic, m->size))
            return m->kind;
    }
    if (file_is_text(head))
        return "a text file; name a bzImage or an ELF vmlinux";
    return "no kernel known here; name a bzImage or an ELF vmlinux for x86_64";
}
