/* SPDX-License-Identifier: MIT */

/*
 * The way from KVM's first instruction to main(): PVH enters in flat 32-bit mode, with the start
 * info's address in EBX. RAM is all zero then, so .bss needs no clearing.
 */
#define NOTE_PHYS32_ENTRY 18

#define CODE32 0x08
#define CODE64 0x10
#define DATA   0x18

#define CR0_PE_PG_NE 0x80000031
#define CR4_PAE      0x20
#define MSR_EFER     0xc0000080
#define EFER_LME     0x100

#define PAGE_FLAGS   0x7 /* present, writable, for ring 3 too */
#define PAGE_LARGE   0x80
#define MAPPED_GIB   8
#define STACK_SIZE   8192

    .section .note.pvh, "a", @note
    .balign 4
    .long 4, 4, NOTE_PHYS32_ENTRY
    .asciz "Xen"
    .long start

    .text
    .code32
    .globl start
start:
    mov %ebx, platform_start_info
    mov $stack_top, %esp
    mov $platform_main, %edi

/* To 64-bit mode, and to the function whose address is in EDI. */
enter64:
    mov $CR4_PAE, %eax
    mov %eax, %cr4
    mov $page_tables, %eax
    mov %eax, %cr3
    mov $MSR_EFER, %ecx
    rdmsr
    or $EFER_LME, %eax
    wrmsr
    mov $CR0_PE_PG_NE, %eax
    mov %eax, %cr0
    lgdt gdt_pointer
    ljmp $CODE64, $1f

    .code64
1:  mov $DATA, %eax
    mov %eax, %ds
    mov %eax, %es
    mov %eax, %ss
    mov %edi, %eax
    call *%rax
    hlt

    .code32
start_secondary:
    mov $DATA, %eax
    mov %eax, %ds
    mov %eax, %ss
    mov platform_secondary_stack, %esp
    mov $platform_secondary, %edi
    jmp enter64

/* Copied to a page below 1 MiB, whose number is the vector a start-up interrupt brings. */
    .section .rodata
    .code16
    .globl trampoline, trampoline_end
trampoline:
    cli
    mov %cs, %ax
    mov %ax, %ds
    lgdtl gdt_pointer - trampoline_gdt_delta
    mov %cr0, %eax
    or $1, %al
    mov %eax, %cr0
    ljmpl $CODE32, $start_secondary
trampoline_gdt:
    .word gdt_end - gdt - 1
    .long gdt
trampoline_end:
    .set trampoline_gdt_delta, gdt_pointer - (trampoline_gdt - trampoline)

    .balign 8
gdt:
    .quad 0
    .quad 0x00cf9b000000ffff /* 32-bit code */
    .quad 0x00af9b000000ffff /* 64-bit code */
    .quad 0x00cf93000000ffff /* data */
gdt_end:
gdt_pointer:
    .word gdt_end - gdt - 1
    .quad gdt

/* Memory one to one in pages of 2 MiB, made by the assembler: it costs no instruction. */
    .data
    .balign 4096
page_tables:
    .quad directories + PAGE_FLAGS
    .balign 4096
directories:
    .set gib, 0
    .rept MAPPED_GIB
    .quad large_pages + gib * 4096 + PAGE_FLAGS
    .set gib, gib + 1
    .endr
    .balign 4096
large_pages:
    .set page, 0
    .rept MAPPED_GIB * 512
    .quad page * 0x200000 + PAGE_LARGE + PAGE_FLAGS
    .set page, page + 1
    .endr

    .bss
    .balign 16
    .skip STACK_SIZE
stack_top:

    .section .note.GNU-stack, "", @progbits
