/* SPDX-License-Identifier: MIT */

/*
 * A minimal Linux program: prints a word, then exits, or powers off if it is the guest's init.
 */
        .globl  _start
_start:
        mov     $1, %eax                /* write */
        mov     $1, %edi
        lea     word(%rip), %rsi
        mov     $6, %edx
        syscall
        mov     $39, %eax               /* getpid */
        syscall
        cmp     $1, %eax
        jne     1f
        mov     $169, %eax              /* reboot */
        mov     $0xfee1dead, %edi
        mov     $0x28121969, %esi
        mov     $0x4321fedc, %edx       /* power off */
        syscall
1:
        mov     $60, %eax               /* exit */
        xor     %edi, %edi
        syscall

word:
        .ascii  "@first"

        .section .note.GNU-stack, "", @progbits
