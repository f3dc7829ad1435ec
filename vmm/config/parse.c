/* SPDX-License-Identifier: MIT */
#include "vmm/config/parse.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "devices/net/slirp.h"
#include "vmm/core/base.h"

struct unit {
    const char *suffix;
    uint64_t factor;
};

static const struct unit units_none[] = { { "", 1 }, { .suffix = NULL } };

static const struct unit units_size[] = {
    { "", 1 }, { "K", KIB }, { "M", MIB }, { "G", GIB }, { "T", 1024 * GIB }, { .suffix = NULL },
};

static const struct unit units_duration[] = {
    { "", 1000 },       { "ms", 1 },          { "s", 1000 },
    { "m", 60 * 1000 }, { "h", 3600 * 1000 }, { .suffix = NULL },
};

static bool parse_scaled(const char *text, const struct unit *units, uint64_t *ret)
{
    bool hex = text[0] == '0' && tolower((unsigned char)text[1]) == 'x' &&
               isxdigit((unsigned char)text[2]);
    unsigned long long number;
    char *suffix;

    if (!isdigit((unsigned char)text[0]))
        return false; /* strtoull() would accept signs and spaces */
    errno = 0;
    number = strtoull(text, &suffix, hex ? 16 : 10);
    if (errno)
        return false;

    while (units->suffix && strcasecmp(units->suffix, suffix) != 0)
        units++;
    return units->suffix && !__builtin_mul_overflow(number, units->factor, ret);
}

bool parse_number(const char *text, uint64_t *ret)
{
    return parse_scaled(text, units_none, ret);
}

bool parse_size(const char *text, uint64_t *ret_bytes)
{
    return parse_scaled(text, units_size, ret_bytes);
}

bool parse_duration(const char *text, uint64_t *ret_ms)
{
    return parse_scaled(text, units_duration, ret_ms);
}

bool parse_mac(const char *text, uint8_t mac[6])
{
    uint8_t bytes[6];

    for (unsigned i = 0; i < ARRAY_SIZE(bytes); i++, text += 3) {
        if (!isxdigit((unsigned char)text[0]) || !isxdigit((unsigned char)text[1]) ||
            text[2] != (i < 5 ? ':' : '\0'))
            return false;
        bytes[i] = (uint8_t)strtoul(text, NULL, 16);
    }
    if (bytes[0] & 1)
        return false;
    memcpy(mac, bytes, sizeof(bytes));
    return true;
}

bool parse_choice(const char *choices, const char *text, unsigned *ret)
{
    for (unsigned index = 0;; index++) {
        size_t length = strcspn(choices, "|");

        if (strlen(text) == length && !strncmp(text, choices, length)) {
            *ret = index;
            return true;
        }
        if (!choices[length])
            return false;
        choices += length + 1;
    }
}

static bool parse_port(const char *text, uint16_t *ret)
{
    uint64_t port;

    if (!parse_number(text, &port) || port < 1 || port > UINT16_MAX)
        return false;
    *ret = (uint16_t)port;
    return true;
}

bool parse_forward(const char *text, struct slirp_forward *ret)
{
    char copy[64], *guest = copy, *protocol, *host, *host_port;
    struct slirp_forward parsed = *ret;
    struct in_addr address = { htonl(INADDR_LOOPBACK) };
    unsigned choice;

    if (strlen(text) >= sizeof(copy))
        return false;
    strcpy(copy, text);
    protocol = strsep(&guest, ":");
    host = strsep(&guest, "-");
    if (!guest || !parse_choice("|tcp|udp", protocol, &choice))
        return false;
    guest += *guest == ':';

    host_port = strrchr(host, ':');
    if (host_port)
        *host_port++ = '\0';
    if (host_port && *host && inet_pton(AF_INET, host, &address) != 1)
        return false;
    if (!parse_port(host_port ? host_port : host, &parsed.host_port) ||
        !parse_port(guest, &parsed.guest_port))
        return false;

    parsed.udp = choice == 2;
    parsed.host_addr = address.s_addr;
    *ret = parsed;
    return true;
}

char *parse_next_word(char **rest)
{
    char *word = *rest, *from = word, *to = word;

    if (!word)
        return NULL;
    for (; *from && (*from != ',' || from[1] == ','); *to++ = *from++)
        if (*from == ',')
            from++;
    *rest = *from ? from + 1 : NULL;
    *to = '\0';
    return word;
}
