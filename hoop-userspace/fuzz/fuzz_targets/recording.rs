//! A recording that somebody else wrote: its frames, and what they claim to hold. The hash before
//! which nothing is believed is left out, or no fuzzer would come past it.
#![no_main]

use hoop::record::{Frame, Kind, Link, Step, Times, Walk};
use hoop::replay::{Recorded, Story, Told, Transcript};
use libfuzzer_sys::fuzz_target;

const KINDS: [Kind; 12] = [
    Kind::Header,
    Kind::Permitted,
    Kind::Refused,
    Kind::Replies,
    Kind::Bulk,
    Kind::Cancel,
    Kind::End,
    Kind::Seal,
    Kind::Entry,
    Kind::Asked,
    Kind::Answered,
    Kind::Identity,
];

fuzz_target!(|bytes: &[u8]| {
    if let Ok(Some((mut walk, _))) = Walk::begin(bytes) {
        let mut rest = bytes.get(hoop::record::PREAMBLE..).unwrap_or_default();
        while let Ok(Step::Frame(_, length)) = walk.step(rest) {
            rest = &rest[length..];
        }
    }
    let (mut story, mut transcript) = (Story::default(), Transcript::default());
    let times = Times::default();
    for piece in bytes.split(|b| *b == 0xff) {
        let Some((kind, payload)) = piece.split_first() else {
            continue;
        };
        let kind = KINDS[usize::from(*kind) % KINDS.len()];
        let frame = Frame {
            kind,
            times,
            payload,
        };
        if let Some(told) = Told::of(&frame, Link::first(&[0; 16])) {
            for line in story.tell(Recorded { times, told }) {
                transcript.line(&line);
            }
        }
    }
});
