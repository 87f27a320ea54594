//! What a child process gives up before it reads its first untrusted byte.

use std::collections::BTreeMap;

use mayfly_core::limits::node;
use mayfly_host::engine::cgroup;
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

/// Below what serves requests.
const NICENESS: i32 = 10;
/// The most there is: when memory runs out, this process is ended and not the one that serves.
const OOM_SCORE: &str = "1000";

impl Caps {
    /// The node's caps of a child with so many seconds of CPU time, on this machine.
    #[must_use]
    pub fn of_node(cpu_s: u64) -> Self {
        let memory = [cgroup::memory_limit(), cgroup::machine_memory()].into_iter().flatten().min();
        Self { cpu_s, data_bytes: data_bytes(memory), output_bytes: node::CHILD_OUTPUT_BYTES }
    }
}

/// In bytes; nothing is known of some machines.
fn data_bytes(memory: Option<u64>) -> u64 {
    let part = memory.map_or(u64::MAX, |memory| memory / node::CHILD_MEMORY_PARTS);
    part.min(node::CHILD_DATA_BYTES)
}

/// Offers this process to the kernel before any other of its group. Needs no privilege, but a `/proc` to write to;
/// without one the child works all the same.
pub fn go_first() {
    let _ = std::fs::write("/proc/self/oom_score_adj", OOM_SCORE);
}

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
        (Resource::Nofile, node::CHILD_DESCRIPTORS, node::CHILD_DESCRIPTORS),
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
    let equal = |argument, value: i32| {
        only(argument, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, u64::from(value.cast_unsigned()))
    };
    let masked = |argument, mask: i32, value: i32| {
        let mask = SeccompCmpOp::MaskedEq(u64::from(mask.cast_unsigned()));
        only(argument, SeccompCmpArgLen::Dword, mask, u64::from(value.cast_unsigned()))
    };
    let own = rustix::process::getpid().as_raw_nonzero().get();
    Ok(vec![
        // Signals to itself, as `abort` sends one; not to its parent, which is of the same user.
        (libc::SYS_tgkill, vec![equal(0, own)?]),
        // Copies and seals of descriptors; nothing that makes the kernel send signals.
        (
            libc::SYS_fcntl,
            FCNTL.iter().map(|&command| equal(1, command)).collect::<Result<_, _>>()?,
        ),
        // Memory of its own or of a file that it holds: `RLIMIT_DATA` does not count what is shared.
        (
            libc::SYS_mmap,
            vec![masked(3, libc::MAP_ANONYMOUS, 0)?, masked(3, libc::MAP_TYPE, libc::MAP_PRIVATE)?],
        ),
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

/// What may be done to a descriptor, beside reading and writing.
const FCNTL: &[i32] = &[
    libc::F_GETFD,
    libc::F_SETFD,
    libc::F_GETFL,
    libc::F_DUPFD_CLOEXEC,
    libc::F_ADD_SEALS,
    libc::F_GET_SEALS,
];

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

#[cfg(test)]
mod tests {
    #![expect(unsafe_code, reason = "the calls of an attacker")]

    use super::*;

    const GIB: u64 = 1 << 30;
    /// Which signal a descriptor sends; not in the `libc` crate.
    const F_SETSIG: i32 = 10;

    #[test]
    fn a_child_has_half_of_a_small_machine() {
        for (memory, data) in
            [(Some(2 * GIB), GIB), (Some(64 * GIB), 6 * GIB), (None, 6 * GIB), (Some(0), 0)]
        {
            assert_eq!(data_bytes(memory), data, "{memory:?}");
        }
        let caps = Caps::of_node(1);
        assert!(caps.data_bytes > 0 && caps.data_bytes <= node::CHILD_DATA_BYTES, "{caps:?}");
    }

    /// Why a call fails, made behind the filters by a thread of its own.
    fn fails(call: impl FnOnce() -> i64 + Send + 'static) -> Option<i32> {
        let behind = move || {
            for filter in filters().unwrap() {
                seccompiler::apply_filter(&filter).unwrap();
            }
            let failed = call() == -1;
            failed.then(|| std::io::Error::last_os_error().raw_os_error()).flatten()
        };
        std::thread::spawn(behind).join().unwrap()
    }

    fn signal(process: i32) -> i64 {
        // SAFETY: signal 0 is only looked at.
        unsafe { libc::syscall(libc::SYS_tgkill, process, process, 0) }
    }

    fn map(flags: i32) -> i64 {
        let (null, prot) = (std::ptr::null_mut(), libc::PROT_READ | libc::PROT_WRITE);
        // SAFETY: new memory, which nobody uses.
        unsafe { libc::mmap(null, 4096, prot, flags, -1, 0) as i64 }
    }

    fn control(command: i32) -> i64 {
        // SAFETY: it asks, or sets what is set already; no pointer is given.
        i64::from(unsafe { libc::fcntl(0, command, 0) })
    }

    #[test]
    fn a_child_signals_nobody_but_itself() {
        let own = rustix::process::getpid().as_raw_nonzero().get();
        let parent = rustix::process::getppid().unwrap().as_raw_nonzero().get();
        assert_eq!(signal(parent), 0, "the test itself could");
        assert_eq!(fails(move || signal(own)), None);
        for other in [parent, 1] {
            assert_eq!(fails(move || signal(other)), Some(libc::EPERM), "{other}");
        }
    }

    #[test]
    fn a_child_has_no_memory_that_is_not_counted() {
        let shared = libc::MAP_SHARED | libc::MAP_ANONYMOUS;
        assert_ne!(map(shared), -1, "the test itself could");
        assert_eq!(fails(move || map(shared)), Some(libc::EPERM));
        let private = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        for flags in [private, private | libc::MAP_NORESERVE] {
            assert_eq!(fails(move || map(flags)), None, "{flags:#x}");
        }
    }

    #[test]
    fn a_child_does_little_to_its_descriptors() {
        for command in [libc::F_GETFD, libc::F_GETFL] {
            assert_eq!(fails(move || control(command)), None, "{command}");
        }
        for command in [libc::F_SETOWN, libc::F_GETOWN, F_SETSIG, libc::F_SETFL, libc::F_SETPIPE_SZ]
        {
            assert_eq!(fails(move || control(command)), Some(libc::EPERM), "{command}");
        }
    }
}
