/* SPDX-License-Identifier: MIT */
#include "vmm/core/capabilities.h"

#include <errno.h>
#include <linux/capability.h>
#include <sys/syscall.h>
#include <unistd.h>

int capabilities_keep(uint32_t keep)
{
    struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
    struct __user_cap_data_struct data[2];

    if (syscall(SYS_capget, &header, data) < 0)
        return -errno;
    if (!(data[0].permitted & ~keep) && !data[1].permitted && !data[0].inheritable)
        return 0;
    data[0].permitted &= keep;
    data[0].effective = data[0].permitted;
    data[0].inheritable = data[1].inheritable = 0;
    data[1].permitted = data[1].effective = 0;
    return syscall(SYS_capset, &header, data) < 0 ? -errno : 0;
}
