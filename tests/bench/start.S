/* SPDX-License-Identifier: MIT */

/*
 * The smallest guest: prints one character to the serial port, then ends in a way that each VMM
 * supports. An ELF file with a PVH note, or with -DBZIMAGE a bzImage. With -DIDLE it halts instead, with
 * -DREPEAT it prints for ever.
 * The same source works in 16, 32 and 64 bits.
 */
#define SERIAL_PORT 0x3f8
#define EXIT_PORT   0xf4 /* minivmm; QEMU's isa-debug-exit */
#define I8042_PORT  0x64 /* reset, in every VMM */
#define I8042_RESET 0xfe

    .macro guest
    mov $SERIAL_PORT, %dx
    mov $'!', %al
1:  out %al, %dx
#ifdef REPEAT
    jmp 1b
#endif
#ifndef IDLE
    mov $0, %al
    out %al, $EXIT_PORT
    mov $I8042_RESET, %al
    out %al, $I8042_PORT
#endif
2:  cli
    hlt
    jmp 2b
    .endm

    .text
    .globl _start
#ifdef BZIMAGE

/* The setup header of Linux, Documentation/arch/x86/boot.rst. */
#define SETUP_SIZE 0x400

image:
_start:
    .org 0x1f1
    .byte SETUP_SIZE / 512 - 1
    .org 0x1f4
    .long (end - image - SETUP_SIZE) / 16
    .org 0x1fe
    .word 0xaa55
    .byte 0xeb, setup - 0x202 - image
    .ascii "HdrS"
    .word 0x20f
    .org 0x211
    .byte 1 /* loaded high */
    .org 0x214
    .long 0x100000
    .org 0x22c
    .long 0x7fffffff, 0x200000 /* highest initrd address, alignment */
    .byte 0, 21
    .word 1 /* has a 64-bit entry */
    .long 2047 /* size of the command line */
    .org 0x258
    .quad 0x100000 /* preferred address */
    .long 0x10000  /* memory needed */
    .org 0x268
setup:
    .code16
    guest
    .org SETUP_SIZE
    .code32
    guest
    .org SETUP_SIZE + 0x200
    .code64
    guest
    .balign 512
end:
#else
    .code32
_start:
    guest

    .section .note.pvh, "a", @note
    .long 4, 4, 18 /* XEN_ELFNOTE_PHYS32_ENTRY */
    .asciz "Xen"
    .long _start
#endif
    .section .note.GNU-stack, "", @progbits
