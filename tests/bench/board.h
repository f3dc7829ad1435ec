/* SPDX-License-Identifier: MIT */
#ifndef BENCH_BOARD_H
#define BENCH_BOARD_H

#include "lib/virtio.h"

/*
 * The first virtio device of a kind, on our board or on QEMU's microvm, with its interrupt led to
 * ring 3's vector on CPU 0. The payload ends if there is none.
 */
struct virtio board_find(uint32_t id);

#endif
