//! Finds the kernel object that `cargo xtask build` made, to embed it. Without one everything
//! still compiles; loading then fails with a message that names the command.

use std::path::PathBuf;

fn main() {
    println!("cargo::rustc-check-cfg=cfg(hoop_object)");
    println!("cargo::rerun-if-env-changed=HOOP_EBPF_OBJECT");
    let here = PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default());
    // A folder that always exists: cargo would run this at every build for a file that does not.
    let folder = here.join("../hoop-ebpf/object");
    println!("cargo::rerun-if-changed={}", folder.display());
    let object = std::env::var_os("HOOP_EBPF_OBJECT")
        .map_or_else(|| folder.join("hoop.bpf.o"), PathBuf::from);
    if let Ok(object) = object.canonicalize() {
        println!("cargo::rerun-if-changed={}", object.display());
        println!("cargo::rustc-cfg=hoop_object");
        println!(
            "cargo::rustc-env=HOOP_EBPF_OBJECT_PATH={}",
            object.display()
        );
    }
}
