/* SPDX-License-Identifier: MIT */
#ifndef FIRMWARE_BOOT_UKI_H
#define FIRMWARE_BOOT_UKI_H

/*
 * Unified kernel images (UAPI Group Specifications, UKI): EFI programs whose section .linux is a
 * kernel.
 */
struct image;

/*
 * Opens a kernel's file as image_open() does. If it is a unified kernel image, the image is the
 * kernel in it; its other sections, such as .cmdline and .initrd, are not used.
 */
int uki_open(struct image *ret_image, const char *path);

/* Narrows an open image in the same way. Logs the reason of a failure and returns -errno. */
int uki_narrow(struct image *image);

#endif
