/* SPDX-License-Identifier: MIT */
#include "devices/fs/guard.h"

#include <string.h>

bool guard_text_ok(const char *text)
{
    for (const unsigned char *c = (const unsigned char *)text; *c; c++)
        if (*c < 0x20 || *c == 0x7f || (c[0] == 0xc2 && c[1] >= 0x80 && c[1] < 0xa0))
            return false;
    return true;
}

bool guard_target_ok(const char *target, unsigned depth)
{
    bool named = false; /* a component other than "." and ".." was seen */

    if (*target == '/')
        return false;
    while (*target) {
        size_t length = strcspn(target, "/");

        if (length == 2 && !strncmp(target, "..", 2)) {
            if (named || depth-- == 0)
                return false;
        } else if (length > 0 && !(length == 1 && *target == '.')) {
            named = true;
        }
        target += length + strspn(target + length, "/");
    }
    return true;
}
