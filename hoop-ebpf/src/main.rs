//! The kernel programs: capture and enforce.
//!
//! Reading order is the order in which a socket meets them: made (`create`), connected
//! (`connect`, `datagram`), its flow published before the SYN leaves (`flows`), asked for its peer
//! (`peer`), its packets (`packets`). `lsm` holds what only a security module sees, where the kernel
//! lets one run. `bypass` is where somebody broke the glass. `maps` is what they share with the
//! daemon, `govern` how a mode is found and how events are reported.
//!
//! Everything fails closed: where a look-up fails, the operation is refused.
#![feature(asm_experimental_arch)]
#![no_std]
#![no_main]

mod bypass;
mod connect;
mod create;
mod datagram;
mod field;
mod flows;
mod govern;
mod log;
mod lsm;
mod maps;
mod packets;
mod peer;

/// GPL-compatible, which some helpers demand.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    // Unreachable: nothing here panics, and the verifier would refuse the loop.
    loop {}
}
