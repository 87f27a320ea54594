//! What a child process gives up before it reads its first untrusted byte.

use std::collections::BTreeMap;

use rustix::process::{Resource, Rlimit, setrlimit};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};

/// What a child may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caps {
    /// CPU time in seconds, all threads together.
    pub cpu_s: u64,
    /// Private writable memory in bytes.
    pub data_bytes: u64,
    /// Bytes of a file it writes.
    pub output_bytes: u64,
}

/// Descriptors: the three it starts with, and anonymous files for memory images.
const DESCRIPTORS: u64 = 64;
/// Below what serves requests.
const NICENESS: i32 = 10;

/// Gives up time, memory, files, network and new programs, in this thread and all that it starts. Cannot be undone.
///
/// # Errors
/// When the kernel refuses one of them; the child must not go on then.
pub fn confine(caps: &Caps) -> anyhow::Result<()> {
    for (resource, value, maximum) in [
        // The first ends the process by SIGXCPU, which says why; the second by SIGKILL.
        (Resource::Cpu, caps.cpu_s, caps.cpu_s + 1),
        (Resource::Data, caps.data_bytes, caps.data_bytes),
        (Resource::Fsize, caps.output_bytes, caps.output_bytes),
        (Resource::Nofile, DESCRIPTORS, DESCRIPTORS),
        (Resource::Core, 0, 0),
    ] {
        setrlimit(resource, Rlimit { current: Some(value), maximum: Some(maximum) })?;
    }
    rustix::process::nice(NICENESS)?;
    for filter in filters()? {
        // Sets PR_SET_NO_NEW_PRIVS too. There is one thread as yet, and those to come inherit the filters.
        seccompiler::apply_filter(&filter)?;
    }
    Ok(())
}

/// The kernel takes the most restrictive answer of all filters.
fn filters() -> anyhow::Result<Vec<BpfProgram>> {
    let arch: TargetArch = std::env::consts::ARCH.try_into()?;
    let allowed = rules(ALLOWED).chain(checked()?).collect();
    // What is not on the list fails softly: libraries probe for calls that they can do without.
    let allow = (allowed, SeccompAction::Errno(libc::EPERM as u32), SeccompAction::Allow);
    // What only an attacker would try is the end.
    let kill = (rules(FATAL).collect(), SeccompAction::Allow, SeccompAction::KillProcess);
    // clone3's flags are behind a pointer, where no filter can see them; libc falls back to clone on this error.
    let clone3 = rules(&[libc::SYS_clone3]).collect();
    let clone3 = (clone3, SeccompAction::Allow, SeccompAction::Errno(libc::ENOSYS as u32));
    // The allow-list last: it also ends the installing of filters.
    [kill, clone3, allow]
        .into_iter()
        .map(|(rules, otherwise, on_match): (BTreeMap<_, _>, _, _)| {
            Ok(SeccompFilter::new(rules, otherwise, on_match, arch)?.try_into()?)
        })
        .collect()
}

fn rules(calls: &[i64]) -> impl Iterator<Item = (i64, Vec<SeccompRule>)> + '_ {
    calls.iter().map(|&call| (call, Vec::new()))
}

/// Calls that are allowed with some arguments only.
fn checked() -> anyhow::Result<Vec<(i64, Vec<SeccompRule>)>> {
    let thread = libc::CLONE_THREAD as u64;
    let only = |argument, length, operator, value| {
        SeccompRule::new(vec![SeccompCondition::new(argument, length, operator, value)?])
    };
    let (long, int) = (SeccompCmpArgLen::Qword, SeccompCmpArgLen::Dword);
    Ok(vec![
        // Threads, no processes.
        (libc::SYS_clone, vec![only(0, long, SeccompCmpOp::MaskedEq(thread), thread)?]),
        // Reading limits, not setting them.
        (libc::SYS_prlimit64, vec![only(2, SeccompCmpArgLen::Qword, SeccompCmpOp::Eq, 0)?]),
        (
            libc::SYS_prctl,
            vec![
                only(0, int.clone(), SeccompCmpOp::Eq, libc::PR_SET_NAME as u64)?,
                only(0, int, SeccompCmpOp::Eq, libc::PR_SET_VMA as u64)?,
            ],
        ),
    ])
}

/// Memory, threads, clocks, and the descriptors that are open already. Nothing here takes a path or an address.
const ALLOWED: &[i64] = &[
    libc::SYS_brk,
    libc::SYS_clock_getres,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_close,
    libc::SYS_dup,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_fcntl,
    libc::SYS_fstat,
    libc::SYS_ftruncate,
    libc::SYS_futex,
    libc::SYS_getpid,
    libc::SYS_getrandom,
    libc::SYS_getrusage,
    libc::SYS_gettid,
    libc::SYS_lseek,
    libc::SYS_madvise,
    libc::SYS_membarrier,
    libc::SYS_memfd_create,
    libc::SYS_mmap,
    libc::SYS_mprotect,
    libc::SYS_mremap,
    libc::SYS_munmap,
    libc::SYS_nanosleep,
    libc::SYS_pread64,
    libc::SYS_pwrite64,
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_restart_syscall,
    libc::SYS_rseq,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_yield,
    libc::SYS_set_robust_list,
    libc::SYS_sigaltstack,
    libc::SYS_tgkill,
    libc::SYS_write,
    libc::SYS_writev,
    // Answered by its own filter; on this list so that its error is that filter's.
    libc::SYS_clone3,
];

/// No library of ours makes these calls.
const FATAL: &[i64] = &[
    libc::SYS_bpf,
    libc::SYS_connect,
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_io_uring_setup,
    libc::SYS_mount,
    libc::SYS_perf_event_open,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_ptrace,
    libc::SYS_setns,
    libc::SYS_socket,
    libc::SYS_socketpair,
    libc::SYS_unshare,
    libc::SYS_userfaultfd,
];
