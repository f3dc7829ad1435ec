/* SPDX-License-Identifier: MIT */
#ifndef BENCH_BOARD_H
#define BENCH_BOARD_H

#include "lib/virtio.h"

/*
 * Finds the first virtio device with this id, on minivmm's board or QEMU's microvm, and routes its
 * interrupt to RING3_VECTOR on CPU 0. Exits if there is none.
 */
struct virtio board_find(uint32_t id);

#endif
