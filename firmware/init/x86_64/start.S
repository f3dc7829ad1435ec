/* SPDX-License-Identifier: MIT */

/* Where the kernel enters the init, and the way back into the kernel. */
    .text

    .globl _start
_start:
    xor %ebp, %ebp
    call init_main
    ud2

/* long sys_call(long number, long a, ... long f) */
    .globl sys_call
sys_call:
    mov %rdi, %rax
    mov %rsi, %rdi
    mov %rdx, %rsi
    mov %rcx, %rdx
    mov %r8, %r10
    mov %r9, %r8
    mov 8(%rsp), %r9
    syscall
    ret

    .section .note.GNU-stack, "", %progbits
