//! The machines that a package is made for.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail};

use super::command;
use crate::{setup, shell};

/// As Debian names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Machine {
    Amd64,
    Arm64,
}

impl Machine {
    pub fn this() -> Result<Self> {
        match std::env::consts::ARCH {
            "x86_64" => Ok(Self::Amd64),
            "aarch64" => Ok(Self::Arm64),
            other => bail!("hoop runs on x86_64 and aarch64; this machine is {other}"),
        }
    }

    pub fn is_this(self) -> bool {
        Self::this().is_ok_and(|this| this == self)
    }

    pub fn debian(self) -> &'static str {
        match self {
            Self::Amd64 => "amd64",
            Self::Arm64 => "arm64",
        }
    }

    /// The name of cargo's and rustc's.
    pub fn rust(self) -> &'static str {
        match self {
            Self::Amd64 => "x86_64-unknown-linux-gnu",
            Self::Arm64 => "aarch64-unknown-linux-gnu",
        }
    }

    /// The name of the GNU tools', and of their folder below `/usr`.
    fn gnu(self) -> &'static str {
        match self {
            Self::Amd64 => "x86_64-linux-gnu",
            Self::Arm64 => "aarch64-linux-gnu",
        }
    }

    fn qemu(self) -> String {
        let name = match self {
            Self::Amd64 => "x86_64",
            Self::Arm64 => "aarch64",
        };
        format!("qemu-{name}-static")
    }

    /// A tool of binutils that reads this machine's programs.
    pub fn tool(self, name: &str) -> String {
        match self.is_this() {
            true => name.to_owned(),
            false => format!("{}-{name}", self.gnu()),
        }
    }

    /// What cargo, the crates of C code and bindgen are told. The `cc` crate finds the compiler itself.
    pub fn cross(self) -> [(String, String); 2] {
        let rust = self.rust().replace('-', "_");
        let linker = format!("CARGO_TARGET_{}_LINKER", rust.to_uppercase());
        let clang = format!("BINDGEN_EXTRA_CLANG_ARGS_{rust}");
        let gnu = self.gnu();
        [
            (linker, format!("{gnu}-gcc")),
            (clang, format!("-I/usr/{gnu}/include")),
        ]
    }

    /// Runs a program that was built for it; where that is another machine, by QEMU.
    pub fn run(self, program: &Path) -> Command {
        if self.is_this() {
            return command(program);
        }
        let mut emulated = command(self.qemu());
        emulated.arg("-L").arg(format!("/usr/{}", self.gnu()));
        emulated.arg(program);
        emulated
    }

    /// Installs what builds for it here and runs what was built: nothing, for this machine's own kind.
    pub fn ensure(self) -> Result<()> {
        if self.is_this() {
            return Ok(());
        }
        let gnu = self.gnu();
        let programs = [format!("{gnu}-gcc"), format!("{gnu}-objdump"), self.qemu()];
        if !programs.iter().all(|program| shell::found(program)) {
            eprintln!("setup: missing a compiler for {} and QEMU", self.debian());
            let gcc = format!("gcc-{}", gnu.replace('_', "-"));
            let libc = format!("libc6-dev-{}-cross", self.debian());
            setup::apt(&[&gcc, &libc, "qemu-user-static"])?;
        }
        let root = shell::output(shell::command("rustc").args(["--print", "sysroot"]))?;
        let library = Path::new(&root).join("lib/rustlib").join(self.rust());
        if library.join("lib").exists() {
            return Ok(());
        }
        if !shell::found("rustup") {
            bail!(
                "no rustup here: install Rust's standard library for {}",
                self.rust()
            );
        }
        eprintln!("setup: missing Rust's standard library for {}", self.rust());
        shell::run(shell::command("rustup").args(["target", "add", self.rust()]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tools_and_variables_are_those_of_the_other_machine() {
        let other = match Machine::this() {
            Ok(Machine::Amd64) => Machine::Arm64,
            _ => Machine::Amd64,
        };
        assert!(other.tool("objdump").ends_with("-linux-gnu-objdump"));
        let [(linker, gcc), (clang, folder)] = other.cross();
        assert!(
            linker.starts_with("CARGO_TARGET_") && linker.ends_with("_UNKNOWN_LINUX_GNU_LINKER")
        );
        assert!(gcc.ends_with("-linux-gnu-gcc"), "{gcc}");
        assert!(clang.ends_with("_unknown_linux_gnu"), "{clang}");
        assert!(folder.starts_with("-I/usr/"), "{folder}");
        let run = format!("{:?}", other.run(Path::new("/x/hoop")));
        assert!(run.contains("qemu-") && run.contains("/x/hoop"), "{run}");
    }
}
