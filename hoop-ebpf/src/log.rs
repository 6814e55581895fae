//! Debug lines, present only with the feature `log`: the hot path pays nothing for them.

#[cfg(feature = "log")]
macro_rules! debug {
    ($($line:tt)*) => { aya_log_ebpf::debug!($($line)*) };
}

#[cfg(not(feature = "log"))]
macro_rules! debug {
    ($($line:tt)*) => {};
}

pub(crate) use debug;
