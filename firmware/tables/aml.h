/* SPDX-License-Identifier: MIT */
#ifndef FIRMWARE_TABLES_AML_H
#define FIRMWARE_TABLES_AML_H

#include <stdint.h>

#include "firmware/buffer.h"

/*
 * Writes the part of AML, ACPI's machine language (ACPI 6.3, 20.2), that a small machine needs. An
 * object that contains others is opened by its function, which returns a mark, and closed by
 * aml_end() with that mark:
 *
 *     size_t device = aml_device(b, "COM1");
 *     aml_name_eisa_id(b, "_HID", "PNP0501");
 *     aml_end(b, device);
 *
 * Names have four characters; shorter ones are padded with '_'.
 */
size_t aml_scope(struct buffer *b, const char *root_name); /* "\\_SB_" */
size_t aml_device(struct buffer *b, const char *name);
size_t aml_method(struct buffer *b, const char *name, unsigned args); /* serialized */
size_t aml_if(struct buffer *b, const char *name);                    /* If (NAME), that is: != 0 */
size_t aml_if_argument(struct buffer *b, uint64_t value);             /* If (Arg0 == value) */
void aml_end(struct buffer *b, size_t mark);

/* Name (NAME, value) */
void aml_name_integer(struct buffer *b, const char *name, uint64_t value);
void aml_name_string(struct buffer *b, const char *name, const char *value);
void aml_name_eisa_id(struct buffer *b, const char *name, const char *id); /* "PNP0501" */
void aml_name_integers(struct buffer *b, const char *name, const uint32_t *values, uint8_t count);

void aml_notify(struct buffer *b, const char *name, uint8_t value);

/* An operation region of one 8-bit I/O port, which methods access as `field`. */
void aml_io_register(struct buffer *b, const char *region, uint64_t port, const char *field);

/* Name (_CRS, ...): opens a list of resources, closed by aml_end_resources(). */
size_t aml_resources(struct buffer *b);
void aml_memory(struct buffer *b, uint32_t base, uint32_t size);
void aml_ports(struct buffer *b, uint16_t base, uint8_t count);
void aml_interrupt(struct buffer *b, uint32_t gsi); /* edge-triggered, active high, not shared */
void aml_end_resources(struct buffer *b, size_t mark);

#endif
