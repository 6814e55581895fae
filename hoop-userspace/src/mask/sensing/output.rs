//! What programs print over SSH, under the detectors: across packets, with a little held back.
//!
//! A value may end in the next packet, so the end of what was printed waits: until more comes, until
//! something other than output comes, or until the loop lets it go (at most 20 ms later, so that a
//! prompt is there at once). A whole line on one of standard output and standard error goes before
//! what follows on the other. Content of files keeps its lengths: their frames say how long they are.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::{Detection, Sensed};
use crate::ids::ExchangeId;
use crate::mask::detect::{Detectors, Id, Stream};
use crate::terminate::{Part, Printed};
use crate::wire::ssh::channel::{self, Forwarded, Message};
use crate::wire::ssh::sftp;

/// One session's output.
#[derive(Debug, Default)]
pub(in crate::mask) struct Outputs {
    out: Lane,
    error: Lane,
    /// What waits on standard error came before what waits on standard output.
    error_first: bool,
    /// What was let go of when the rules changed, and how many values were replaced in it.
    ready: Vec<u8>,
    values: u64,
    /// The exchange that printed last, and what its output is.
    last: Option<(ExchangeId, Printed)>,
}

/// Standard output, or standard error.
#[derive(Debug, Default)]
struct Lane(Option<Box<(Stream, Printed)>>);

impl Outputs {
    /// Bytes that wait.
    pub fn held(&self) -> usize {
        self.ready.len() + self.out.held() + self.error.held()
    }

    /// Whether something waits.
    pub fn holds(&self) -> bool {
        self.held() > 0
    }

    /// Masks a run of output messages; what was decided is appended.
    pub(super) fn sense(
        &mut self,
        detection: &Detection,
        part: &Part,
        kind: Printed,
        mut wire: Bytes,
    ) -> Sensed {
        let mut out = std::mem::take(&mut self.ready);
        let mut values = std::mem::take(&mut self.values);
        self.last = Some((part.exchange, kind));
        // They were encoded a moment ago.
        while let Ok(Some(message)) = Message::take(&mut wire) {
            match message {
                Message::Output(text) => {
                    values += self.error.give_way(detection, true, &mut out);
                    values += self.out.push(detection, kind, &text, false, &mut out);
                }
                Message::ErrorOutput(text) => {
                    values += self.out.give_way(detection, false, &mut out);
                    values += self.error.push(detection, kind, &text, true, &mut out);
                }
                other => put(&other, &mut out),
            }
            self.keep_order();
        }
        Sensed::Other(out, values)
    }

    /// Appends all that waits, to the last byte. `finish` where nothing more can come; otherwise a
    /// value that has begun may go on.
    pub fn let_go(&mut self, detection: Option<&Detection>, finish: bool) -> (Vec<u8>, u64) {
        let mut out = std::mem::take(&mut self.ready);
        let mut values = std::mem::take(&mut self.values);
        if self.error_first {
            values += self.error.flush(detection, finish, true, &mut out);
        }
        values += self.out.flush(detection, finish, false, &mut out);
        values += self.error.flush(detection, finish, true, &mut out);
        self.keep_order();
        (out, values)
    }

    fn keep_order(&mut self) {
        match (self.out.held(), self.error.held()) {
            (_, 0) => self.error_first = false,
            (0, _) => self.error_first = true,
            _ => {}
        }
    }

    /// Other detectors hold from now on: what waits was found by those before.
    pub fn change(&mut self, detection: Option<&Detection>) {
        let (out, values) = self.let_go(detection, true);
        (self.out, self.error) = Default::default();
        self.ready = out;
        self.values = values;
    }

    /// To which exchange what waits belongs, and what it is.
    pub fn last(&self) -> Option<(ExchangeId, Printed)> {
        self.last
    }
}

impl Lane {
    fn held(&self) -> usize {
        self.0.as_ref().map_or(0, |lane| lane.0.held())
    }

    /// Lets a whole line go, since something follows on the other lane: a client may leave once it
    /// has there what it wants (`kubectl cp`, an archive), and would never see what was said before.
    fn give_way(&mut self, detection: &Detection, error: bool, out: &mut Vec<u8>) -> u64 {
        match &self.0 {
            Some(lane) if lane.0.ends_line() => self.flush(Some(detection), false, error, out),
            _ => 0,
        }
    }

    fn push(
        &mut self,
        detection: &Detection,
        kind: Printed,
        text: &[u8],
        error: bool,
        out: &mut Vec<u8>,
    ) -> u64 {
        let mut printed = Vec::with_capacity(text.len());
        let mut values = 0;
        if self.0.as_ref().is_some_and(|lane| lane.1 != kind) {
            values += self.flush(Some(detection), true, error, out);
            self.0 = None;
        }
        let lane = self
            .0
            .get_or_insert_with(|| Box::new((stream(&detection.detectors, kind), kind)));
        let replace = replace(detection, kind, &mut values);
        lane.0.push(text, &mut printed, replace);
        frame(&printed, error, out);
        values
    }

    fn flush(
        &mut self,
        detection: Option<&Detection>,
        finish: bool,
        error: bool,
        out: &mut Vec<u8>,
    ) -> u64 {
        let (Some(lane), Some(detection)) = (&mut self.0, detection) else {
            return 0;
        };
        let (mut printed, mut values) = (Vec::new(), 0);
        let replace = replace(detection, lane.1, &mut values);
        match finish {
            true => lane.0.finish(&mut printed, replace),
            false => lane.0.flush(&mut printed, replace),
        }
        frame(&printed, error, out);
        values
    }
}

fn stream(detectors: &Arc<Detectors>, kind: Printed) -> Stream {
    match kind {
        // Programs colour what they print elsewhere too (`--color=always`).
        Printed::Terminal | Printed::Text => Stream::terminal(detectors.clone()),
        Printed::Framed => Stream::bytes(detectors.clone()).keeping_length(),
    }
}

fn replace<'d>(
    detection: &'d Detection,
    kind: Printed,
    values: &'d mut u64,
) -> impl FnMut(Id, &[u8], &mut Vec<u8>) + 'd {
    move |id, value, out| {
        *values += 1;
        match kind {
            Printed::Framed => out.resize(out.len() + value.len(), b'*'),
            // Nothing becomes NULL here: text has no place for one.
            Printed::Terminal | Printed::Text => detection.show(id, value, out),
        }
    }
}

/// Appends text as messages; each is as large as a packet may be.
fn frame(text: &[u8], error: bool, out: &mut Vec<u8>) {
    const PIECE: usize = 32 << 10;
    for piece in text.chunks(PIECE) {
        channel::put_text(error, piece, out);
    }
}

fn put(message: &Message, out: &mut Vec<u8>) {
    let mut bytes = BytesMut::new();
    message.put(&mut bytes);
    out.extend_from_slice(&bytes);
}

impl Detection {
    /// Content of files in packets of SFTP: what is found becomes as many `*`. A value that goes on
    /// in another packet is found there if it can be recognised by that part alone.
    pub(super) fn file(&self, bytes: &[u8]) -> Sensed {
        let mut wire = Bytes::copy_from_slice(bytes);
        let (mut out, mut values) = (BytesMut::with_capacity(bytes.len()), 0);
        while let Ok(Some(message)) = Message::take(&mut wire) {
            match message {
                Message::SftpReply(packet) => {
                    let (packet, found) = self.packet(packet);
                    values += found;
                    Message::SftpReply(packet).put(&mut out);
                }
                other => other.put(&mut out),
            }
        }
        match values {
            0 => Sensed::Same,
            _ => Sensed::Other(out.to_vec(), values),
        }
    }

    fn packet(&self, packet: Bytes) -> (Bytes, u64) {
        let Ok(sftp::Reply::Data { data, .. }) = sftp::reply(&packet) else {
            return (packet, 0);
        };
        let hits = self.find(&data);
        let Some(start) = (packet.len()).checked_sub(data.len()) else {
            return (packet, 0);
        };
        if hits.is_empty() {
            return (packet, 0);
        }
        let mut out = packet.to_vec();
        for hit in &hits {
            let place = start + hit.range.start..start + hit.range.end;
            if let Some(value) = out.get_mut(place) {
                value.fill(b'*');
            }
        }
        (out.into(), hits.len() as u64)
    }

    /// Messages of a channel as a recording keeps them: what is found in commands and input becomes
    /// as many `*`, so that frames stay true. `None` if nothing is found.
    pub fn masked_channel(&self, wire: &[u8]) -> Option<Bytes> {
        let mut rest = Bytes::copy_from_slice(wire);
        let (mut out, mut changed) = (BytesMut::with_capacity(wire.len()), false);
        while let Ok(Some(message)) = Message::take(&mut rest) {
            let other = self.masked_message(&message);
            changed |= other.is_some();
            other.unwrap_or(message).put(&mut out);
        }
        match self.masked_cut(&rest) {
            Some(other) => {
                changed = true;
                out.extend_from_slice(&other);
            }
            None => out.extend_from_slice(&rest),
        }
        changed.then(|| out.freeze())
    }

    fn masked_message(&self, message: &Message) -> Option<Message> {
        Some(match message {
            Message::Exec(text) => Message::Exec(self.masked_cut(text)?),
            Message::Input(text) => Message::Input(self.masked_cut(text)?),
            Message::Forwarded(piece) => Message::Forwarded(Forwarded {
                bytes: self.masked_cut(&piece.bytes)?,
                ..piece.clone()
            }),
            Message::Env { name, value } => Message::Env {
                name: name.clone(),
                value: self.masked_cut(value)?,
            },
            Message::SftpRequest(packet) => {
                // Length, type and number of the packet stand before texts.
                let (head, body) = packet.split_at_checked(HEAD)?;
                let body = self.masked_cut(body)?;
                Message::SftpRequest([head, &body].concat().into())
            }
            _ => return None,
        })
    }
}

/// Bytes of an SFTP packet before its first field.
const HEAD: usize = 9;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::How;
    use crate::mask::detect::Detector;
    use crate::mask::{DetectorKind, HashKey};
    use crate::terminate::PartKind;
    use crate::wire::ssh::channel::Message;
    use proptest::prelude::*;

    const CARD: &str = "4111 1111 1111 1111";

    fn detection() -> Detection {
        let kinds = [DetectorKind::Card, DetectorKind::Email];
        let entries = kinds.map(|kind| (Detector::Kind(kind), How::Redact));
        Detection::new(entries, &HashKey::new(&[1; 32]), 1 << 20).unwrap()
    }

    fn part(kind: Printed) -> Part {
        Part {
            exchange: ExchangeId(1),
            unit: 0,
            end: 0,
            kind: PartKind::Output(kind),
        }
    }

    fn printed(sensed: &[u8]) -> (String, String) {
        let (mut out, mut error) = (Vec::new(), Vec::new());
        let mut wire = Bytes::copy_from_slice(sensed);
        while let Some(message) = Message::take(&mut wire).unwrap() {
            match message {
                Message::Output(text) => out.extend_from_slice(&text),
                Message::ErrorOutput(text) => error.extend_from_slice(&text),
                other => panic!("{other:?}"),
            }
        }
        assert!(wire.is_empty());
        (
            String::from_utf8(out).unwrap(),
            String::from_utf8(error).unwrap(),
        )
    }

    /// What the client sees of text that is printed in these pieces.
    fn seen(kind: Printed, pieces: &[&[u8]]) -> (String, u64) {
        let (detection, mut outputs) = (detection(), Outputs::default());
        let (mut all, mut values) = (Vec::new(), 0);
        for piece in pieces {
            let wire = Message::Output(Bytes::copy_from_slice(piece)).to_bytes();
            match outputs.sense(&detection, &part(kind), kind, wire) {
                Sensed::Other(out, found) => {
                    all.extend(out);
                    values += found;
                }
                Sensed::Same => panic!("output passed unseen"),
            }
        }
        let (rest, found) = outputs.let_go(Some(&detection), true);
        all.extend(rest);
        (printed(&all).0, values + found)
    }

    /// Messages in the order in which they leave, pieces of one stream put together.
    fn order(sensed: &[u8]) -> Vec<String> {
        let mut order: Vec<String> = Vec::new();
        let mut wire = Bytes::copy_from_slice(sensed);
        while let Some(message) = Message::take(&mut wire).unwrap() {
            let (name, text) = match &message {
                Message::Output(text) => ("out ", text),
                Message::ErrorOutput(text) => ("err ", text),
                other => panic!("{other:?}"),
            };
            let text = String::from_utf8_lossy(text);
            match order.last_mut().filter(|last| last.starts_with(name)) {
                Some(last) => last.push_str(&text),
                None => order.push(format!("{name}{text}")),
            }
        }
        order
    }

    #[test]
    fn a_line_goes_before_what_follows_on_the_other_stream() {
        for kind in [Printed::Text, Printed::Framed] {
            let (detection, mut outputs) = (detection(), Outputs::default());
            let mut sense = |message: Message| {
                let wire = message.to_bytes();
                match outputs.sense(&detection, &part(kind), kind, wire) {
                    Sensed::Other(out, _) => order(&out),
                    Sensed::Same => panic!("output passed unseen"),
                }
            };
            let line = format!("to ann@example.com: {CARD}\n");
            assert!(sense(Message::ErrorOutput(line.into())).is_empty());
            // The client may go as soon as it has the archive: the line must be there by then.
            let archive = "x".repeat(10240);
            let seen = sense(Message::Output(archive.into()));
            assert!(
                seen[0].starts_with("err to ") && seen[0].ends_with('\n'),
                "{seen:?}"
            );
            assert!(!seen[0].contains("1111") && !seen[0].contains("ann@"));
            assert!(seen[1].starts_with("out xxx"), "{seen:?}");
            // Part of a line waits: it may be part of a value.
            assert!(sense(Message::ErrorOutput("4111 1111 ".into())).is_empty());
            assert!(sense(Message::Output("x\n".into())).is_empty());
            let seen = sense(Message::ErrorOutput("1111 1111\n".into()));
            assert_eq!(seen.len(), 1, "{seen:?}");
            assert!(seen[0].starts_with("out ") && seen[0].ends_with("x\n"));
            let (rest, values) = outputs.let_go(Some(&detection), true);
            assert_eq!((order(&rest).len(), values), (1, 1));
        }
    }

    #[test]
    fn what_waits_is_let_go_in_the_order_in_which_it_came() {
        let (detection, mut outputs) = (detection(), Outputs::default());
        let kind = Printed::Text;
        let came = [
            (
                Message::ErrorOutput("first ".into()),
                vec!["err first ", "out second"],
            ),
            (
                Message::Output("second".into()),
                vec!["out second", "err first "],
            ),
        ];
        for turn in 0..2 {
            for at in [turn, 1 - turn] {
                let wire = came[at].0.to_bytes();
                outputs.sense(&detection, &part(kind), kind, wire);
            }
            let (out, _) = outputs.let_go(Some(&detection), false);
            assert_eq!(order(&out), came[turn].1);
        }
    }

    #[test]
    fn a_value_is_masked_wherever_the_packets_end() {
        let text = format!("before {CARD} after\n");
        for cut in 1..text.len() {
            let (one, other) = text.as_bytes().split_at(cut);
            let (seen, values) = seen(Printed::Text, &[one, other]);
            assert_eq!((seen.as_str(), values), ("before [masked:card] after\n", 1));
        }
    }

    #[test]
    fn colours_hide_nothing_and_frames_keep_their_lengths() {
        let coloured = b"4111 \x1b[31m1111 1111\x1b[0m 1111 end";
        let (text, values) = seen(Printed::Terminal, &[coloured]);
        assert!(values == 1 && !text.contains("1111"), "{text:?}");
        let whole = format!("C0644 19 x\n{CARD}\0");
        let (text, _) = seen(Printed::Framed, &[whole.as_bytes()]);
        assert_eq!(text, format!("C0644 19 x\n{}\0", "*".repeat(19)));
    }

    #[test]
    fn a_prompt_waits_only_until_it_is_let_go() {
        let (detection, mut outputs) = (detection(), Outputs::default());
        let wire = Message::Output(Bytes::from_static(b"Password: ")).to_bytes();
        let kind = Printed::Terminal;
        outputs.sense(&detection, &part(kind), kind, wire);
        assert!(outputs.holds());
        let (out, _) = outputs.let_go(Some(&detection), false);
        assert_eq!(printed(&out).0, "Password: ");
        assert!(!outputs.holds());
    }

    /// As rsync prints: its last bytes look like the beginning of a character, and the other end answers
    /// only when it has them.
    #[test]
    fn what_looks_like_half_a_character_is_let_go_too() {
        let (detection, mut outputs) = (detection(), Outputs::default());
        let message: &[u8] = b"\x1d\0\0\x07\x01\x08\xdf\xa4\xe2\x82";
        for kind in [Printed::Framed, Printed::Text, Printed::Terminal] {
            let wire = Message::Output(Bytes::from_static(message)).to_bytes();
            outputs.sense(&detection, &part(kind), kind, wire);
            let (out, _) = outputs.let_go(Some(&detection), false);
            assert!(out.ends_with(message) && !outputs.holds(), "{kind:?}");
        }
    }

    #[test]
    fn what_is_recorded_of_a_request_keeps_its_frames() {
        let detection = detection();
        let mut wire = BytesMut::new();
        let input = format!("x{}y ann@example.com", "1".repeat(30));
        for message in [
            Message::Exec(Bytes::from(format!("pay {CARD}"))),
            Message::Input(Bytes::from(input)),
            Message::InputEnd,
        ] {
            message.put(&mut wire);
        }
        let mut kept = detection.masked_channel(&wire).unwrap();
        assert_eq!(kept.len(), wire.len());
        let Some(Message::Exec(command)) = Message::take(&mut kept).unwrap() else {
            panic!();
        };
        assert_eq!(&*command, format!("pay {}", "*".repeat(19)).as_bytes());
        let text = String::from_utf8_lossy(&kept).into_owned();
        assert!(!text.contains("ann@example.com"), "{text}");
        assert_eq!(detection.masked_channel(b"c\0\0\0\0"), None);
    }

    #[test]
    fn files_keep_their_lengths() {
        let detection = detection();
        let content = format!("card={CARD};");
        let packet = sftp::data_for_test(7, content.as_bytes());
        let wire = Message::SftpReply(packet.clone()).to_bytes();
        let Sensed::Other(out, 1) = detection.file(&wire) else {
            panic!("nothing was found");
        };
        let Some(Message::SftpReply(other)) = Message::take(&mut Bytes::from(out)).unwrap() else {
            panic!();
        };
        assert_eq!(other.len(), packet.len());
        let Ok(sftp::Reply::Data { id: 7, data }) = sftp::reply(&other) else {
            panic!();
        };
        assert_eq!(&*data, format!("card={};", "*".repeat(19)).as_bytes());
    }

    proptest! {
        #[test]
        fn text_without_findings_comes_through_as_it_was(
            pieces in proptest::collection::vec("[a-z\\n \u{e9}\u{1f600}]{0,200}", 0..20),
        ) {
            let bytes: Vec<&[u8]> = pieces.iter().map(|p| p.as_bytes()).collect();
            for kind in [Printed::Text, Printed::Terminal, Printed::Framed] {
                prop_assert_eq!(seen(kind, &bytes), (pieces.concat(), 0));
            }
        }
    }
}
