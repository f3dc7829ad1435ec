/* SPDX-License-Identifier: MIT */
#include "vmm/control/json.h"

#include <dlfcn.h>
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "settings.h"
#include "vmm/core/base.h"
#include "vmm/core/log.h"

static struct {
    __typeof__(&json_object_seed) seed;
    __typeof__(&json_loadb) load;
    __typeof__(&json_delete) delete;
    __typeof__(&json_object_get) get;
    __typeof__(&json_string_value) string;
    __typeof__(&json_array_get) entry;
    __typeof__(&json_object_iter) iterate;
    __typeof__(&json_object_iter_next) next;
    __typeof__(&json_object_iter_key) key;
} jansson;

#if STATIC
static int json_load(void)
{
    jansson.seed = json_object_seed;
    jansson.load = json_loadb;
    jansson.delete = json_delete;
    jansson.get = json_object_get;
    jansson.string = json_string_value;
    jansson.entry = json_array_get;
    jansson.iterate = json_object_iter;
    jansson.next = json_object_iter_next;
    jansson.key = json_object_iter_key;
    return 0;
}
#else
static int json_load(void)
{
    static const struct {
        const char *name;
        void *to;
    } symbols[] = {
        { "json_object_seed", &jansson.seed },    { "json_loadb", &jansson.load },
        { "json_delete", &jansson.delete },       { "json_object_get", &jansson.get },
        { "json_string_value", &jansson.string }, { "json_array_get", &jansson.entry },
        { "json_object_iter", &jansson.iterate }, { "json_object_iter_next", &jansson.next },
        { "json_object_iter_key", &jansson.key },
    };
    void *library = dlopen("libjansson.so.4", RTLD_NOW | RTLD_LOCAL);

    if (!library)
        return log_refuse(ENOSYS, "a control socket needs the package libjansson4 (%s)", dlerror());
    for (unsigned i = 0; i < ARRAY_SIZE(symbols); i++) {
        void *symbol = dlsym(library, symbols[i].name);

        if (!symbol)
            return log_refuse(ENOSYS, "the installed libjansson has no %s", symbols[i].name);
        memcpy(symbols[i].to, &symbol, sizeof(symbol));
    }
    return 0;
}
#endif

int json_open(void)
{
    int error = json_load();

    if (!error)
        jansson.seed(0); /* else the first object does, which opens a file */
    return error;
}

struct json *json_read(const char *bytes, size_t size, char *why, size_t why_size)
{
    json_error_t error;
    json_t *json = jansson.load(bytes, size, JSON_REJECT_DUPLICATES, &error);

    if (!json)
        snprintf(why, why_size, "%s at line %d column %d", error.text, error.line, error.column);
    return (struct json *)json;
}

/* json_decref() without its reference to json_delete(). */
void json_free(struct json *json)
{
    json_t *value = (json_t *)json;

    if (value && value->refcount != (size_t)-1 && JSON_INTERNAL_DECREF(value) == 0)
        jansson.delete(value);
}

const struct json *json_member(const struct json *object, const char *key)
{
    const json_t *value = jansson.get((const json_t *)object, key);

    return value && !json_is_null(value) ? (const struct json *)value : NULL;
}

const char *json_text(const struct json *json)
{
    return json ? jansson.string((const json_t *)json) : NULL;
}

bool json_flag(const struct json *json)
{
    return json && json_typeof((const json_t *)json) == JSON_TRUE;
}

const struct json *json_entry(const struct json *array, size_t index)
{
    return (const struct json *)jansson.entry((const json_t *)array, index);
}

bool json_is_flag(const struct json *json)
{
    return json && json_is_boolean((const json_t *)json);
}

bool json_has_only(const struct json *object, const char *const keys[], const char **ret)
{
    json_t *json = (json_t *)object;

    *ret = NULL;
    if (!json_is_object(json))
        return false;
    for (void *at = jansson.iterate(json); at; at = jansson.next(json, at)) {
        unsigned i = 0;

        *ret = jansson.key(at);
        while (keys[i] && strcmp(keys[i], *ret) != 0)
            i++;
        if (!keys[i])
            return false;
    }
    return true;
}

/* Bytes of the character at `text` in UTF-8 (RFC 3629); 0: it is none. */
static unsigned json_character(const char *text)
{
    const unsigned char *c = (const unsigned char *)text;
    unsigned size = *c < 0x80   ? 1
                    : *c < 0xc2 ? 0
                    : *c < 0xe0 ? 2
                    : *c < 0xf0 ? 3
                    : *c < 0xf5 ? 4
                                : 0;

    for (unsigned i = 1; i < size; i++)
        if ((c[i] & 0xc0) != 0x80)
            return 0;
    if ((*c == 0xe0 && c[1] < 0xa0) || (*c == 0xed && c[1] > 0x9f) || (*c == 0xf0 && c[1] < 0x90) ||
        (*c == 0xf4 && c[1] > 0x8f))
        return 0;
    return size;
}

const char *json_quote(const char *text, char *to, size_t size)
{
    size_t used = 0;

    to[used++] = '"';
    while (*text && used + 8 < size) {
        unsigned length = json_character(text);

        if (length == 0)
            used += (size_t)sprintf(to + used, "\\ufffd");
        else if ((unsigned char)*text < 0x20 || *text == '"' || *text == '\\')
            used += (size_t)sprintf(to + used, "\\u%04x", (unsigned)*text);
        else
            used = (size_t)((char *)mempcpy(to + used, text, length) - to);
        text += length ? length : 1;
    }
    to[used++] = '"';
    to[used] = '\0';
    return to;
}
