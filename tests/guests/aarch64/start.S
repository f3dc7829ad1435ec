/* SPDX-License-Identifier: MIT */

/*
 * Entered at EL1 with the MMU off and the device tree's address in X0; calls main(). RAM is zero at
 * that time, so .bss needs no clearing.
 */
#define STACK_SIZE 8192

#define MAIR_VALUE 0x44ff /* 0: write-back memory; 1: uncached memory */

#define TCR_39_BITS     25 /* and 4 KiB pages: a table of 512 entries, 1 GiB each */
#define TCR_CACHED      0x3500
#define TCR_NO_TTBR1    0x800000
#define TCR_40_BITS_OUT 0x200000000

#define SCTLR_ON         0x1005 /* MMU, caches */
#define SCTLR_ALIGNMENT  1      /* bit: unaligned accesses fault */

/* Devices are mapped as uncached memory, so that accesses need not be aligned; no execution. */
#define BLOCK_RAM     0x701
#define BLOCK_DEVICES 0x0060000000000405

    .section .head, "ax"
    .globl start
start:
    b begin
    .long 0
    .quad 0 /* offset */
    .quad payload_end - start
    .quad 0 /* flags */
    .quad 0, 0, 0
    .ascii "ARM\x64"
    .long 0

begin:
    ldr x1, =platform_fdt
    str x0, [x1]
    ldr x1, =stack_top
    mov sp, x1
    bl enable
    bl platform_main
0:  wfi
    b 0b

    .globl start_secondary
start_secondary: /* X0: its stack */
    mov sp, x0
    bl enable
    bl platform_secondary
0:  wfi
    b 0b

enable:
    ldr x1, =vectors
    msr vbar_el1, x1
    ldr x1, =MAIR_VALUE
    msr mair_el1, x1
    ldr x1, =TCR_39_BITS + TCR_CACHED + TCR_NO_TTBR1 + TCR_40_BITS_OUT
    msr tcr_el1, x1
    ldr x1, =page_table
    msr ttbr0_el1, x1
    isb
    mrs x1, sctlr_el1
    ldr x2, =SCTLR_ON
    orr x1, x1, x2
    bic x1, x1, #(1 << SCTLR_ALIGNMENT)
    msr sctlr_el1, x1
    isb
    ret

    .macro vector function
    .balign 0x80
    stp x29, x30, [sp, #-16]!
    adr x30, 0f
    b save
0:  bl \function
    b restore
    .endm

    .macro no_vector
    .balign 0x80
    b .
    .endm

    .balign 0x800
vectors:
    .rept 4
    no_vector
    .endr
    vector platform_fault
    vector platform_interrupt
    .rept 10
    no_vector
    .endr

save:
    stp x0, x1, [sp, #-16]!
    stp x2, x3, [sp, #-16]!
    stp x4, x5, [sp, #-16]!
    stp x6, x7, [sp, #-16]!
    stp x8, x9, [sp, #-16]!
    stp x10, x11, [sp, #-16]!
    stp x12, x13, [sp, #-16]!
    stp x14, x15, [sp, #-16]!
    stp x16, x17, [sp, #-16]!
    stp x18, x19, [sp, #-16]!
    ret

restore:
    ldp x18, x19, [sp], #16
    ldp x16, x17, [sp], #16
    ldp x14, x15, [sp], #16
    ldp x12, x13, [sp], #16
    ldp x10, x11, [sp], #16
    ldp x8, x9, [sp], #16
    ldp x6, x7, [sp], #16
    ldp x4, x5, [sp], #16
    ldp x2, x3, [sp], #16
    ldp x0, x1, [sp], #16
    ldp x29, x30, [sp], #16
    eret

    .data
    .balign 4096
page_table: /* identity map */
    .quad BLOCK_DEVICES
    .set gib, 1
    .rept 511
    .quad gib * 0x40000000 + BLOCK_RAM
    .set gib, gib + 1
    .endr

    .bss
    .balign 16
    .skip STACK_SIZE
stack_top:

    .section .note.GNU-stack, "", @progbits
