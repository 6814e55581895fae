//! The shapes that kernel and user space share: plain old data, layout asserted at compile time.
#![cfg_attr(not(test), no_std)]
