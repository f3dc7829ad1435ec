/* SPDX-License-Identifier: MIT */
#include "firmware/init/job_read.h"

#include <string.h>

#include "firmware/init/text.h"
#include "vmm/core/base.h"

enum order_kind { ORDER_STRING, ORDER_NUMBER, ORDER_LIST };

/* Where each key's value goes in struct orders. */
static const struct {
    const char *key;
    enum order_kind kind;
    size_t at;
} order_keys[] = {
    { "module=", ORDER_LIST, ORDERS_MODULE },
    { "share=", ORDER_LIST, ORDERS_SHARE },
    { "group=", ORDER_LIST, ORDERS_GROUP },
    { "env=", ORDER_LIST, ORDERS_ENV },
    { "arg=", ORDER_LIST, ORDERS_ARG },
    { "hostname=", ORDER_STRING, offsetof(struct orders, hostname) },
    { "network=", ORDER_STRING, offsetof(struct orders, network) },
    { "tty=", ORDER_STRING, offsetof(struct orders, tty) },
    { "winsize=", ORDER_STRING, offsetof(struct orders, winsize) },
    { "stdin=", ORDER_STRING, offsetof(struct orders, streams[0]) },
    { "stdout=", ORDER_STRING, offsetof(struct orders, streams[1]) },
    { "stderr=", ORDER_STRING, offsetof(struct orders, streams[2]) },
    { "cwd=", ORDER_STRING, offsetof(struct orders, cwd) },
    { "uid=", ORDER_NUMBER, offsetof(struct orders, uid) },
    { "gid=", ORDER_NUMBER, offsetof(struct orders, gid) },
};

static size_t orders_count(const char *bytes, size_t size)
{
    size_t count = 0;

    for (size_t i = 0; i < size; i++)
        count += bytes[i] == '\0';
    return count;
}

size_t orders_room(const char *bytes, size_t size)
{
    return (orders_count(bytes, size) + 1) * ORDERS_LISTS * sizeof(char *);
}

static bool orders_take(struct orders *orders, size_t counts[ORDERS_LISTS], const char *string)
{
    for (unsigned i = 0; i < ARRAY_SIZE(order_keys); i++) {
        const char *value = text_after(string, order_keys[i].key);
        size_t at = order_keys[i].at;

        if (!value)
            continue;
        if (order_keys[i].kind == ORDER_LIST)
            orders->lists[at][counts[at]++] = value;
        else if (order_keys[i].kind == ORDER_NUMBER)
            *(uint32_t *)((char *)orders + at) = (uint32_t)text_number(value);
        else
            *(const char **)((char *)orders + at) = value;
        return true;
    }
    return false;
}

const char *orders_read(struct orders *ret, const char *bytes, size_t size, void *room)
{
    size_t counts[ORDERS_LISTS] = { 0 }, length = orders_count(bytes, size) + 1;

    *ret = (struct orders){ .streams = { "null", "null", "null" }, .cwd = "/" };
    for (unsigned i = 0; i < ORDERS_LISTS; i++)
        ret->lists[i] = (const char **)room + i * length;
    for (const char *string = bytes; string < bytes + size; string += strlen(string) + 1)
        if (!orders_take(ret, counts, string))
            return string;
    return NULL;
}
