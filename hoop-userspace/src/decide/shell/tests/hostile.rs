//! Texts that are made to exhaust something.

use super::*;

/// On a stack of a quarter of what a worker's thread has; with the seconds that it computed.
fn on_small_stack(text: String) -> (ShellFacts, i64) {
    let thread = std::thread::Builder::new().stack_size(1 << 20);
    let read = move || (facts(&text), computed());
    thread.spawn(read).unwrap().join().unwrap()
}

/// By this thread alone, which a busy machine does not change.
fn computed() -> i64 {
    let clock = nix::time::ClockId::CLOCK_THREAD_CPUTIME_ID;
    nix::time::clock_gettime(clock).unwrap().tv_sec()
}

#[test]
fn nesting() {
    let pairs = [
        ("(", ")"),
        ("{ ", "; }"),
        ("$(", ")"),
        ("echo $(", ")"),
        ("\"$(", ")\""),
        ("`", "`"),
        ("${x:-", "}"),
        ("$((", "))"),
        ("<(", ")"),
        ("if ls; then ", "; fi"),
        ("while ls; do ", "; done"),
        ("case x in x) ", ";; esac"),
        ("f() { ", "; }"),
        ("{a,", "}"),
        ("! ", ""),
        ("eval ", ""),
        ("sudo ", ""),
        ("nice ", ""),
        ("busybox ", ""),
        ("sh -c '", "'"),
        ("time ", ""),
        ("exec ", ""),
    ];
    for (open, close) in pairs {
        for depth in [1, 20, 40, 5_000] {
            let text = format!("{}ls{}", open.repeat(depth), close.repeat(depth));
            let (found, _) = on_small_stack(text);
            if depth == 5_000 && !open.starts_with('!') && !open.starts_with("f()") {
                let understood = !found.opaque && found.programs == ["ls"];
                assert!(!understood, "{open}");
            }
        }
    }
}

#[test]
fn work() {
    let texts = [
        // Each function calls the next twice.
        (0..40).map(|n| format!("f{n}() {{ f{0}; f{0}; }}; ", n + 1)).collect::<String>() + "f0",
        "for a in 1 2 3 4 5 6 7 8 9; do ".repeat(20) + "ls" + &"; done".repeat(20),
        "x=1; ".repeat(20_000),
        (0..20_000).map(|n| format!("x{n}=1; ")).collect(),
        "ls {a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}".into(),
        "ls {1..100000000}".into(),
        format!("cat {}", "*".repeat(100_000)),
        format!("cat /{}", "../".repeat(30_000)),
        format!("cat {}", "a* ".repeat(30_000)),
        format!("sed '{}' x", "b;".repeat(50_000)),
        format!("find . {}", "-exec ls \\; ".repeat(9_000)),
        "for x in a b c d; do for y in a b c d; do for z in a b c d; do ls $x $y $z; done; done; done".into(),
        (0..200).map(|n| format!("cd d{n}; ")).collect::<String>() + "ls",
        "a".repeat(1 << 20),
        format!("ls {}", "{".repeat(100_000)),
        format!("ls {}", "{a".repeat(50_000)),
        format!("ls {}", "{a,".repeat(30_000)),
        format!("ls {}", "[".repeat(100_000)),
        format!("ls {}", "[a".repeat(50_000)),
        // What a variable holds doubles.
        format!("a=AAAAAAAA; {}ls $a", "a=$a$a; ".repeat(60)),
        format!("a=AAAAAAAA; {}ls $a$a", "b=$a$a; a=$b; ".repeat(60)),
        format!("ls {}", "$@".repeat(60_000)),
        format!("find {}-exec ls {} \\;", "d ".repeat(900), "x".repeat(60_000)),
        format!("cat {}", "a/".repeat(2_000) + " ").repeat(30),
        (0..250).map(|n| format!("x{n}={}; ", "v".repeat(400))).collect::<String>() + &"ls; ".repeat(6_000),
        (0..250).map(|n| format!("if a; then x{n}=1; else x{n}={}; fi; ", "w".repeat(100))).collect::<String>()
            + &"ls $x1 $x2 $x3 $x4; ".repeat(1_500),
        format!("ls {}", "$x[1".repeat(30_000)),
        format!("ls {}", "\\\n".repeat(60_000)),
        format!("ls {}", "{a".repeat(40_000) + ">x"),
        format!("ls {} {}", (0..9_000).map(|n| format!("{n}<x ")).collect::<String>(), "3>&4 ".repeat(9_000)),
        (0..9_000).map(|n| format!("x{n}=(1); ")).collect(),
        (0..250).map(|n| format!("x{n}=(1); ")).collect::<String>() + &"declare x1=a; ".repeat(4_000),
        format!("printf '{}' {}", "%d%s".repeat(15_000), "1 a ".repeat(15_000)),
        format!("a=({})", "[1]=x ".repeat(20_000)),
        (0..3_000).map(|n| format!("f() {{ ls {n}; }}; ")).collect::<String>() + &"f; ".repeat(200),
    ];
    for text in texts {
        let start: String = text.chars().take(40).collect();
        let (_, seconds) = on_small_stack(text);
        // A second or less; what grows as the square of the text takes minutes.
        assert!(seconds < 30, "{start}");
    }
}

#[test]
fn what_is_too_much_is_unknown() {
    assert!(facts(&"a".repeat(1 << 17)).opaque);
    assert!(facts("ls \0").opaque);
    assert!(facts(&format!("ls {}", "x ".repeat(5_000))).opaque);
}
