//! Places at which a test can kill the process or fill its disk. Not there in release builds.

use std::io;

/// Dies here if `MAYFLY_FAIL_AT` is `step`, and fails as on a full disk if it is `step:full`.
#[cfg(debug_assertions)]
pub fn point(step: &str) -> io::Result<()> {
    use std::sync::LazyLock;
    static PLAN: LazyLock<Option<String>> = LazyLock::new(|| std::env::var("MAYFLY_FAIL_AT").ok());
    let Some(plan) = PLAN.as_deref() else { return Ok(()) };
    if plan == step {
        // No destructor, no flush: as by `kill -9`.
        let _ =
            rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    }
    if plan.strip_suffix(":full") == Some(step) {
        return Err(io::Error::from_raw_os_error(libc::ENOSPC));
    }
    Ok(())
}

/// Nothing.
#[cfg(not(debug_assertions))]
#[inline]
#[expect(clippy::unnecessary_wraps, reason = "the signature of the build that fails")]
pub fn point(_step: &str) -> io::Result<()> {
    Ok(())
}
