/* SPDX-License-Identifier: MIT */
#include "vmm/kvm/confine.h"

#include <errno.h>
#include <linux/kvm.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <termios.h>
#include <unistd.h>

#include "vmm/core/base.h"
#include "vmm/core/log.h"
#include "vmm/kvm/arch.h"

#ifndef PR_SCHED_CORE
#define PR_SCHED_CORE 62
#endif

static const struct seccomp_rule kvm_table[] = {
    SECCOMP_IOCTL(KVM_CREATE_VM, "a start, a reset"),
    SECCOMP_IOCTL(KVM_CHECK_EXTENSION, "the same"),
    SECCOMP_IOCTL(KVM_GET_VCPU_MMAP_SIZE, "the same"),
    SECCOMP_IOCTL(KVM_CREATE_VCPU, "the same"),
    SECCOMP_PRCTL(PR_SCHED_CORE, "vCPUs share a core with each other only"),
};

const struct seccomp_list kvm_rules = { kvm_table, ARRAY_SIZE(kvm_table) };

/* The hottest first. */
static const struct seccomp_rule vcpu_table[] = {
    SECCOMP_IOCTL(KVM_RUN, "run the guest"),
    SECCOMP_IOCTL(KVM_IRQ_LINE, "interrupts of chips"),
    { SYS_futex, .reason = "mutexes; waiting until the machine runs, and for a device's loop" },
    { SYS_write, .reason = "eventfds of loops; log messages" },
    { SYS_read, .reason = "an eventfd that the guest could have signalled" },
    { SYS_pwritev2, .reason = "a serial port's output" },
    { SYS_timerfd_settime, .reason = "timers of chips" },
    { SYS_ppoll, .reason = "waiting for a full stderr" },
#ifdef SYS_poll
    { SYS_poll, .reason = "the same" },
#endif
    { SYS_clock_gettime, .reason = "clock_gettime(), if the vDSO cannot" },

    /* The first access of a driver to its device. */
    SECCOMP_IOCTL(KVM_IOEVENTFD, "doorbells of a virtio device"),
    SECCOMP_IOCTL(KVM_IRQFD, "its interrupt"),
    SECCOMP_IOCTL(KVM_SET_USER_MEMORY_REGION, "its registers as memory"),

    /* The end of the thread, or of the process. */
    { SYS_rt_sigreturn, .reason = "return from the handler of a kick" },
    { SYS_restart_syscall, .reason = "poll() after SIGSTOP and SIGCONT" },
    { SYS_rt_sigprocmask, .reason = "abort(); the end of a thread" },
    { SYS_getpid, .reason = "abort()" },
    { SYS_gettid, .reason = "abort()" },
    { SYS_tgkill, .own_process = true, .reason = "abort()" },
    SECCOMP_IOCTL(TIOCGPGRP, "a deadly signal: restore the terminal"),
    SECCOMP_IOCTL(TCSETS, "the same"),
    SECCOMP_IOCTL(TCGETS, "is stderr a terminal?"),
#ifdef SYS_getpgrp
    { SYS_getpgrp, .reason = "a deadly signal: is the terminal ours?" },
#else
    { SYS_getpgid, .reason = "a deadly signal: is the terminal ours?" },
#endif
    { SYS_madvise, .reason = "the stack of an ending thread; free()" },
    { SYS_munmap, .reason = "free()" },
    { SYS_brk, .reason = "malloc()" },
    { SYS_exit, .reason = "the end of the thread" },
    { SYS_exit_group, .reason = "abort(), if all else fails" },
};

const struct seccomp_list vcpu_rules = { vcpu_table, ARRAY_SIZE(vcpu_table) };

int vcpu_confine(void)
{
    const struct seccomp_list lists[] = { vcpu_rules, arch_vcpu_rules };
    int error = seccomp_restrict(lists, ARRAY_SIZE(lists), SECCOMP_TRAP);

    return error ? log_error(-error, "restrict the system calls of a vCPU") : 0;
}
