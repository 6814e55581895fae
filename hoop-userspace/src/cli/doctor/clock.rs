//! Whether this host's clock follows the world's: tokens and certificates have times.

use super::finding::{Check, Finding, Remedy, run};
use crate::capture::{Clock, clock};

const CLOCK: Check = Check::new(
    "clock",
    "tokens and certificates have times: where the clock is off by more than the issuer's skew (30 s), good ones are refused and ended ones pass",
);
/// What is tolerated by default, in microseconds.
const SKEW: i64 = 30_000_000;

pub fn check() -> Finding {
    match clock() {
        Ok(clock) => judge(clock),
        Err(error) => CLOCK.unknown(format!("the kernel does not say: {error}"), mend()),
    }
}

fn mend() -> Remedy {
    run("timedatectl set-ntp true").and("or start whatever else keeps this host's time")
}

fn judge(clock: Clock) -> Finding {
    let error = clock.worst_error_us;
    if clock.synchronised && error > SKEW {
        return CLOCK.fail(format!("it may be off by {} s", error / 1_000_000), mend());
    }
    match clock.synchronised {
        true => CLOCK.ok(format!("synchronised, off by {} ms at most", error / 1000)),
        false => CLOCK.warn("nobody keeps it synchronised", mend()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::State;
    use super::*;

    #[test]
    fn a_clock_is_judged_by_what_the_kernel_says() {
        let state = |synchronised, worst_error_us| {
            judge(Clock {
                synchronised,
                worst_error_us,
            })
            .state
        };
        assert_eq!(state(true, 2_000), State::Ok);
        assert_eq!(state(true, SKEW + 1), State::Fail);
        assert_eq!(state(false, 16_000_000), State::Warn);
    }
}
