//! Fields of a program's context, read and written by one instruction each.
//!
//! The verifier wants `context + constant` in the very instruction; the compiler likes to compute
//! the address once and keep it, even of volatile accesses ("dereference of modified ctx ptr").

/// Reads 32 bits: `read32!(pointer, Type, field)` or `…, field, index` for an array of words.
macro_rules! read32 {
    ($base:expr, $kind:ty, $field:ident) => {
        $crate::field::read32!($base, $kind, $field, 0)
    };
    ($base:expr, $kind:ty, $field:ident, $index:literal) => {{
        let value: u64;
        // SAFETY: one load within the struct that the kernel passed; the verifier checks it.
        unsafe {
            core::arch::asm!(
                "{value} = *(u32 *)({base} + {offset})",
                value = out(reg) value,
                base = in(reg) $base,
                offset = const { core::mem::offset_of!($kind, $field) + 4 * $index },
                options(nostack, preserves_flags),
            );
        }
        value as u32
    }};
}

/// Reads a pointer, such as a context's socket; to be checked for null.
macro_rules! read_pointer {
    ($base:expr, $kind:ty, $field:ident) => {{
        let value: *mut core::ffi::c_void;
        // SAFETY: as in `read32`.
        unsafe {
            core::arch::asm!(
                "{value} = *(u64 *)({base} + {offset})",
                value = out(reg) value,
                base = in(reg) $base,
                offset = const { core::mem::offset_of!($kind, $field) },
                options(nostack, preserves_flags),
            );
        }
        value
    }};
}

/// Writes 32 bits, of a field that the program's kind may write.
macro_rules! write32 {
    ($base:expr, $kind:ty, $field:ident, $index:literal, $value:expr) => {{
        let value: u32 = $value;
        // SAFETY: as in `read32`.
        unsafe {
            core::arch::asm!(
                "*(u32 *)({base} + {offset}) = {value}",
                value = in(reg) u64::from(value),
                base = in(reg) $base,
                offset = const { core::mem::offset_of!($kind, $field) + 4 * $index },
                options(nostack, preserves_flags),
            );
        }
    }};
}

pub(crate) use {read_pointer, read32, write32};
