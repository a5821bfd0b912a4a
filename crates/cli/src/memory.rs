//! K-10: keys, passwords and tokens are in no dump of this process, and no other program of the same user reads them.

/// Forbids core dumps, and on Linux a debugger's view and `/proc/PID/environ` too. A system that refuses this is no
/// reason not to work.
pub(crate) fn keep_private() {
    #[cfg(unix)]
    let _ = rustix::process::setrlimit(rustix::process::Resource::Core, rustix::process::Rlimit { current: Some(0), maximum: Some(0) });
    #[cfg(target_os = "linux")]
    let _ = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable);
}
