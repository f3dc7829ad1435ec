/* SPDX-License-Identifier: MIT */
#include "vmm/core/state.h"
#include "vmm/kvm/arch.h"

void arch_vm_state(struct vm *vm, struct state *s)
{
    state_fail(s, "snapshots are not implemented on this architecture");
}
