/* SPDX-License-Identifier: MIT */
#include "firmware/tables/aml.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* ACPI 6.3, 20.3 */
enum {
    AML_ZERO = 0x00,
    AML_ONE = 0x01,
    AML_NAME = 0x08,
    AML_BYTE = 0x0a,
    AML_WORD = 0x0b,
    AML_DWORD = 0x0c,
    AML_STRING = 0x0d,
    AML_QWORD = 0x0e,
    AML_SCOPE = 0x10,
    AML_BUFFER = 0x11,
    AML_PACKAGE = 0x12,
    AML_METHOD = 0x14,
    AML_EXTENDED = 0x5b,
    AML_ARG0 = 0x68,
    AML_NOTIFY = 0x86,
    AML_EQUAL = 0x93,
    AML_IF = 0xa0,
    /* after AML_EXTENDED */
    AML_REGION = 0x80,
    AML_FIELD = 0x81,
    AML_DEVICE = 0x82,
};

#define AML_SYSTEM_IO         1
#define AML_METHOD_SERIALIZED 0x08
#define AML_NAME_SIZE         4

/* ACPI 6.3, 6.4 */
#define RESOURCE_IO        0x47
#define RESOURCE_END       0x79
#define RESOURCE_MEMORY    0x86
#define RESOURCE_INTERRUPT 0x89

static void aml_put_name(struct buffer *b, const char *name)
{
    assert(strlen(name) == AML_NAME_SIZE);
    buffer_put_text(b, name);
}

static void aml_put_integer(struct buffer *b, uint64_t value)
{
    if (value <= 1) {
        buffer_put(b, value ? AML_ONE : AML_ZERO, 1);
    } else if (value <= UINT8_MAX) {
        buffer_put(b, AML_BYTE, 1);
        buffer_put(b, value, 1);
    } else if (value <= UINT16_MAX) {
        buffer_put(b, AML_WORD, 1);
        buffer_put(b, value, 2);
    } else if (value <= UINT32_MAX) {
        buffer_put(b, AML_DWORD, 1);
        buffer_put(b, value, 4);
    } else {
        buffer_put(b, AML_QWORD, 1);
        buffer_put(b, value, 8);
    }
}

/* The length (PkgLength) is inserted at the mark, now that it is known. */
void aml_end(struct buffer *b, size_t mark)
{
    size_t body = b->used - mark;
    uint8_t bytes[3];
    unsigned extra = body + 1 < 0x40 ? 0 : body + 2 < 0x1000 ? 1 : 2;
    size_t length = body + 1 + extra; /* it counts itself */

    assert(length < 0x100000);
    bytes[0] = (uint8_t)(extra ? extra << 6 | (length & 0xf) : length);
    bytes[1] = (uint8_t)(length >> 4);
    bytes[2] = (uint8_t)(length >> 12);
    buffer_insert(b, mark, bytes, 1 + extra);
}

size_t aml_scope(struct buffer *b, const char *root_name)
{
    size_t mark;

    assert(root_name[0] == '\\');
    buffer_put(b, AML_SCOPE, 1);
    mark = b->used;
    buffer_put_text(b, root_name);
    return mark;
}

size_t aml_device(struct buffer *b, const char *name)
{
    size_t mark;

    buffer_put(b, AML_EXTENDED, 1);
    buffer_put(b, AML_DEVICE, 1);
    mark = b->used;
    aml_put_name(b, name);
    return mark;
}

size_t aml_method(struct buffer *b, const char *name, unsigned args)
{
    size_t mark;

    buffer_put(b, AML_METHOD, 1);
    mark = b->used;
    aml_put_name(b, name);
    buffer_put(b, AML_METHOD_SERIALIZED | args, 1);
    return mark;
}

size_t aml_if(struct buffer *b, const char *name)
{
    size_t mark;

    buffer_put(b, AML_IF, 1);
    mark = b->used;
    aml_put_name(b, name);
    return mark;
}

size_t aml_if_argument(struct buffer *b, uint64_t value)
{
    size_t mark;

    buffer_put(b, AML_IF, 1);
    mark = b->used;
    buffer_put(b, AML_EQUAL, 1);
    buffer_put(b, AML_ARG0, 1);
    aml_put_integer(b, value);
    return mark;
}

static void aml_begin_name(struct buffer *b, const char *name)
{
    buffer_put(b, AML_NAME, 1);
    aml_put_name(b, name);
}

void aml_name_integer(struct buffer *b, const char *name, uint64_t value)
{
    aml_begin_name(b, name);
    aml_put_integer(b, value);
}

void aml_name_string(struct buffer *b, const char *name, const char *value)
{
    aml_begin_name(b, name);
    buffer_put(b, AML_STRING, 1);
    buffer_put_bytes(b, value, strlen(value) + 1);
}

/* EISAID: three letters of five bits and four hexadecimal digits, big-endian. */
void aml_name_eisa_id(struct buffer *b, const char *name, const char *id)
{
    uint32_t number = (uint32_t)strtoul(id + 3, NULL, 16);

    assert(strlen(id) == 7);
    for (unsigned i = 0; i < 3; i++)
        number |= (uint32_t)(id[i] - '@') << (26 - 5 * i);
    aml_begin_name(b, name);
    buffer_put(b, AML_DWORD, 1);
    buffer_put(b, __builtin_bswap32(number), 4);
}

void aml_name_integers(struct buffer *b, const char *name, const uint32_t *values, uint8_t count)
{
    size_t mark;

    aml_begin_name(b, name);
    buffer_put(b, AML_PACKAGE, 1);
    mark = b->used;
    buffer_put(b, count, 1);
    for (unsigned i = 0; i < count; i++)
        aml_put_integer(b, values[i]);
    aml_end(b, mark);
}

void aml_notify(struct buffer *b, const char *name, uint8_t value)
{
    buffer_put(b, AML_NOTIFY, 1);
    aml_put_name(b, name);
    aml_put_integer(b, value);
}

void aml_io_register(struct buffer *b, const char *region, uint64_t port, const char *field)
{
    size_t mark;

    buffer_put(b, AML_EXTENDED, 1);
    buffer_put(b, AML_REGION, 1);
    aml_put_name(b, region);
    buffer_put(b, AML_SYSTEM_IO, 1);
    aml_put_integer(b, port);
    aml_put_integer(b, 1);

    buffer_put(b, AML_EXTENDED, 1);
    buffer_put(b, AML_FIELD, 1);
    mark = b->used;
    aml_put_name(b, region);
    buffer_put(b, 1, 1); /* accessed as bytes, no lock, other bits preserved */
    aml_put_name(b, field);
    buffer_put(b, 8, 1); /* bits */
    aml_end(b, mark);
}

/* The buffer's size comes first: a word that aml_end_resources() fills in. */
size_t aml_resources(struct buffer *b)
{
    size_t mark;

    aml_begin_name(b, "_CRS");
    buffer_put(b, AML_BUFFER, 1);
    mark = b->used;
    buffer_put(b, AML_WORD, 1);
    buffer_put(b, 0, 2);
    return mark;
}

void aml_memory(struct buffer *b, uint32_t base, uint32_t size)
{
    buffer_put(b, RESOURCE_MEMORY, 1);
    buffer_put(b, 9, 2); /* bytes that follow */
    buffer_put(b, 1, 1); /* read and write */
    buffer_put(b, base, 4);
    buffer_put(b, size, 4);
}

void aml_ports(struct buffer *b, uint16_t base, uint8_t count)
{
    buffer_put(b, RESOURCE_IO, 1);
    buffer_put(b, 1, 1); /* all 16 address bits are decoded */
    buffer_put(b, base, 2);
    buffer_put(b, base, 2);
    buffer_put(b, 1, 1); /* alignment */
    buffer_put(b, count, 1);
}

void aml_interrupt(struct buffer *b, uint32_t gsi)
{
    buffer_put(b, RESOURCE_INTERRUPT, 1);
    buffer_put(b, 6, 2);    /* bytes that follow */
    buffer_put(b, 0x03, 1); /* consumer, edge; active high and exclusive are 0 */
    buffer_put(b, 1, 1);
    buffer_put(b, gsi, 4);
}

void aml_end_resources(struct buffer *b, size_t mark)
{
    buffer_put(b, RESOURCE_END, 1);
    buffer_put(b, 0, 1); /* checksum: 0 is always right */
    buffer_patch(b, mark + 1, b->used - mark - 3, 2);
    aml_end(b, mark);
}
