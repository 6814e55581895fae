//! Frames that client-go's SPDY library wrote, and properties.

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;

use super::*;

/// Written by moby/spdystream's framer, which kubectl and the API server use: a client's frames in
/// this order on one connection.
const CLIENT: &[(&str, &str)] = &[
    (
        "error",
        "80030001000000290000000100000000000078f9e3c6a7c26260606004a7b392a2d4c45c6851c29a0a0a6800000000ffff",
    ),
    (
        "stdin",
        "800300010000001700000003000000000000c22e555c92929907000000ffff",
    ),
    (
        "stdout",
        "800300010000001900000005000000000000c22ac5565c92925f5a02000000ffff",
    ),
    (
        "resize",
        "800300010000001800000007000000000000c22e57945a9c59950a000000ffff",
    ),
    (
        "port",
        "800300010000002f000000090000000000000225710c3950c19508a9038ac0d9cdd4c4d888818181b308926632417989d100000000ffff",
    ),
    ("data", "00000003000000036c730a"),
    ("fin", "0000000301000000"),
    ("rst", "80030003000000080000000500000005"),
    ("ping", "800300060000000400000001"),
    ("goaway", "80030007000000080000000500000000"),
    ("settings", "800300040000000c000000010100000400000064"),
    ("window", "80030009000000080000000300010000"),
];

/// The same of a server.
const SERVER: &[&str] = &[
    "80030002000000140000000178f9e3c6a7c26260606000000000ffff",
    "800300020000000c00000003026100000000ffff",
    "8003000800000016000000036260606004615002674e624806000000ffff",
];

fn hex(text: &str) -> Vec<u8> {
    let digit = |c: u8| char::from(c).to_digit(16).unwrap() as u8;
    let pairs = text.as_bytes().chunks(2);
    pairs.map(|p| digit(p[0]) << 4 | digit(p[1])).collect()
}

fn headers(pairs: &[(&str, &str)]) -> Headers {
    let own = |text: &str| Bytes::copy_from_slice(text.as_bytes());
    Headers::new(pairs.iter().map(|(n, v)| (own(n), own(v))).collect()).unwrap()
}

fn id(number: u32) -> StreamId {
    StreamId::new(number).unwrap()
}

fn syn(number: u32, pairs: &[(&str, &str)]) -> Frame {
    Frame::SynStream(SynStream {
        id: id(number),
        fin: false,
        unidirectional: false,
        associated: 0,
        priority: 0,
        headers: headers(pairs),
    })
}

/// All frames, adjacent pieces of one DATA frame joined, and the error if there was one.
fn decode(bytes: &[u8], chunk: usize) -> (Vec<Frame>, Option<SpdyError>, bool) {
    let (mut decoder, mut input, mut found) = (Decoder::default(), BytesMut::new(), Vec::new());
    let mut open = false;
    for piece in bytes.chunks(chunk.max(1)) {
        input.extend_from_slice(piece);
        loop {
            match decoder.next(&mut input) {
                Ok(Some(Frame::Data { id, fin, bytes })) => {
                    match found.last_mut() {
                        Some(Frame::Data {
                            bytes: before,
                            fin: end,
                            ..
                        }) if open => {
                            *before = [&before[..], &bytes[..]].concat().into();
                            *end = fin;
                        }
                        _ => found.push(Frame::Data { id, fin, bytes }),
                    }
                    open = decoder.open.is_some();
                }
                Ok(Some(frame)) => found.push(frame),
                Ok(None) => break,
                Err(why) => return (found, Some(why), false),
            }
        }
    }
    let between = decoder.is_between_frames(&input);
    (found, None, between)
}

fn encode(frames: &[Frame]) -> BytesMut {
    let (mut encoder, mut out) = (Encoder::default(), BytesMut::new());
    frames
        .iter()
        .for_each(|f| encoder.put(f, &mut out).unwrap());
    out
}

#[test]
fn the_dictionary_is_the_specifications() {
    let (mut a, mut b) = (1u32, 0u32);
    for byte in dictionary::DICTIONARY {
        a = (a + u32::from(*byte)) % 65521;
        b = (b + a) % 65521;
    }
    assert_eq!(dictionary::DICTIONARY.len(), 1423);
    assert_eq!(b << 16 | a, dictionary::ADLER);
}

#[test]
fn what_client_go_writes_is_read() {
    let wire: Vec<u8> = CLIENT.iter().flat_map(|(_, text)| hex(text)).collect();
    let expected = [
        syn(1, &[("streamtype", "error")]),
        syn(3, &[("streamtype", "stdin")]),
        syn(5, &[("streamtype", "stdout")]),
        syn(7, &[("streamtype", "resize")]),
    ];
    for chunk in [1, 3, 7, 4096] {
        let (frames, error, between) = decode(&wire, chunk);
        assert_eq!((error, between), (None, true));
        assert_eq!(frames[..4], expected[..]);
        let Frame::SynStream(port) = &frames[4] else {
            panic!("{:?}", frames[4]);
        };
        // The order is that of a Go map.
        assert_eq!(port.headers.get("streamtype").unwrap(), "data");
        assert_eq!(port.headers.get("port").unwrap(), "5432");
        assert_eq!(port.headers.get("requestid").unwrap(), "0");
        assert_eq!(port.headers.iter().count(), 3);
        assert_eq!(
            frames[5..],
            [
                Frame::Data {
                    id: id(3),
                    fin: false,
                    bytes: "ls\n".into()
                },
                Frame::Data {
                    id: id(3),
                    fin: true,
                    bytes: Bytes::new()
                },
                Frame::RstStream {
                    id: id(5),
                    status: status::CANCEL
                },
                Frame::Ping(1),
                Frame::GoAway {
                    last: 5,
                    status: goaway::OK
                },
                Frame::Settings {
                    clear: false,
                    entries: vec![Setting {
                        flags: 1,
                        id: 4,
                        value: 100
                    }]
                },
                Frame::WindowUpdate {
                    id: 3,
                    delta: 65536
                },
            ]
        );
    }
}

#[test]
fn what_the_server_writes_is_read() {
    let wire: Vec<u8> = SERVER.iter().flat_map(|text| hex(text)).collect();
    let (frames, error, _) = decode(&wire, 5);
    assert_eq!(error, None);
    let reply = |number| Frame::SynReply {
        id: id(number),
        fin: false,
        headers: Headers::default(),
    };
    let late = Frame::Headers {
        id: id(3),
        fin: false,
        headers: headers(&[("a", "b\0c")]),
    };
    assert_eq!(frames, [reply(1), reply(3), late]);
}

#[test]
fn frames_without_headers_are_written_as_client_go_writes_them() {
    let wire: Vec<u8> = CLIENT[5..].iter().flat_map(|(_, text)| hex(text)).collect();
    let (frames, ..) = decode(&wire, 64);
    assert_eq!(encode(&frames), wire);
}

#[test]
fn what_cannot_be_is_refused_before_its_payload_comes() {
    let refused = |bytes: &[u8]| decode(bytes, 1).1.unwrap();
    assert_eq!(refused(&hex("8002000100000029")), SpdyError::Version(2));
    assert_eq!(refused(&hex("8003000a00000004")), SpdyError::Type(10));
    assert_eq!(refused(&hex("8003000500000000")), SpdyError::Type(5));
    assert_eq!(
        refused(&hex("8003000104000029")),
        SpdyError::Flags { kind: 1, flags: 4 }
    );
    assert_eq!(
        refused(&hex("0000000302000001")),
        SpdyError::Flags { kind: 0, flags: 2 }
    );
    assert_eq!(refused(&hex("0000000000000001")), SpdyError::StreamId(0));
    for (frame, kind, length) in [
        ("8003000100000009", 1, 9),
        ("8003000100ffffff", 1, 0x00ff_ffff),
        ("8003000200000003", 2, 3),
        ("8003000300000009", 3, 9),
        ("8003000400000008", 4, 8),
        ("8003000600000008", 6, 8),
        ("8003000700000004", 7, 4),
        ("800300090000000c", 9, 12),
    ] {
        assert_eq!(refused(&hex(frame)), SpdyError::Length { kind, length });
    }
    assert_eq!(refused(&hex("800300060000000400000000")), SpdyError::Ping);
    assert_eq!(
        refused(&hex("80030003000000080000000500000000")),
        SpdyError::Status
    );
    assert_eq!(
        refused(&hex("80030003000000088000000500000001")),
        SpdyError::StreamId(0x8000_0005)
    );
    // Two settings are claimed and one is there.
    assert_eq!(
        refused(&hex("800300040000000c000000020100000400000064")),
        SpdyError::Length {
            kind: 4,
            length: 12
        }
    );
}

/// A SYN_REPLY whose block is compressed as it should be, whatever it says.
fn reply(plain: &[u8]) -> Vec<u8> {
    let mut stream = flate2::Compress::new(flate2::Compression::best(), true);
    stream.set_dictionary(dictionary::DICTIONARY).unwrap();
    let mut block = Vec::with_capacity(1 << 16);
    let sync = flate2::FlushCompress::Sync;
    stream.compress_vec(plain, &mut block, sync).unwrap();
    let mut frame = hex("80030002");
    frame.extend((block.len() as u32 + 4).to_be_bytes());
    frame.extend([0, 0, 0, 1]);
    frame.extend(block);
    frame
}

#[test]
fn header_blocks_that_lie_are_refused() {
    let refused = |plain: &[u8]| decode(&reply(plain), 4096).1.unwrap();
    assert_eq!(refused(&[0, 0, 0]), SpdyError::HeadersShort);
    assert_eq!(refused(&[0, 0, 0, 1]), SpdyError::HeadersShort);
    assert_eq!(refused(&[0, 0, 0, 0, 7]), SpdyError::HeadersTrailing);
    assert_eq!(refused(&[0, 0, 1, 0]), SpdyError::HeaderCount(256));
    assert_eq!(
        refused(b"\0\0\0\x01\xff\xff\xff\xffa"),
        SpdyError::HeadersShort
    );
    assert_eq!(
        refused(b"\0\0\0\x01\0\0\0\x01A\0\0\0\0"),
        SpdyError::HeaderName
    );
    assert_eq!(
        refused(b"\0\0\0\x01\0\0\0\0\0\0\0\0"),
        SpdyError::HeaderName
    );
    assert_eq!(
        refused(b"\0\0\0\x02\0\0\0\x01a\0\0\0\0\0\0\0\x01a\0\0\0\0"),
        SpdyError::HeaderTwice
    );
}

#[test]
fn a_block_that_inflates_without_end_is_stopped() {
    // A megabyte of zeros in about one KiB.
    let bomb = reply(&vec![0; 1 << 20]);
    assert!(bomb.len() < 2048, "{}", bomb.len());
    assert_eq!(decode(&bomb, 4096).1, Some(SpdyError::Inflated));
    let most = MAX_HEADER_BLOCK - 13;
    let mut full = b"\0\0\0\x01\0\0\0\x01a".to_vec();
    full.extend((most as u32).to_be_bytes());
    full.resize(MAX_HEADER_BLOCK, b'x');
    assert_eq!(decode(&reply(&full), 4096).1, None);
}

#[test]
fn other_compression_is_refused() {
    // No zlib header, another dictionary, a stream that ends, nothing at all.
    let frame = |block: &[u8]| {
        let mut frame = hex("80030002");
        frame.extend((block.len() as u32 + 4).to_be_bytes());
        frame.extend([0, 0, 0, 1]);
        frame.extend(block);
        decode(&frame, 64).1.unwrap()
    };
    assert_eq!(frame(b"\0\0\0\0"), SpdyError::Compression);
    assert_eq!(frame(&hex("78f9e3c6a7c3")), SpdyError::Compression);
    assert_eq!(frame(b""), SpdyError::HeadersShort);
    let mut ended = Vec::with_capacity(64);
    let mut stream = flate2::Compress::new(flate2::Compression::fast(), true);
    let finish = flate2::FlushCompress::Finish;
    stream.compress_vec(&[0; 4], &mut ended, finish).unwrap();
    assert_eq!(frame(&ended), SpdyError::Compression);
}

fn any_headers() -> impl Strategy<Value = Headers> {
    let pair = ("[a-z-]{1,12}", prop::collection::vec(any::<u8>(), 0..60));
    prop::collection::btree_map(pair.0, pair.1, 0..6).prop_map(|map| {
        let own = map.into_iter().map(|(n, v)| (n.into(), v.into()));
        Headers::new(own.collect()).unwrap()
    })
}

fn any_frame() -> impl Strategy<Value = Frame> {
    let id = || (1u32..CONTROL).prop_map(|n| StreamId::new(n).unwrap());
    let setting = (any::<u8>(), 0u32..1 << 24, any::<u32>());
    let setting = setting.prop_map(|(flags, id, value)| Setting { flags, id, value });
    prop_oneof![
        (id(), any::<[bool; 2]>(), 0..CONTROL, 0u8..8, any_headers()).prop_map(
            |(id, [fin, unidirectional], associated, priority, headers)| {
                Frame::SynStream(SynStream {
                    id,
                    fin,
                    unidirectional,
                    associated,
                    priority,
                    headers,
                })
            }
        ),
        (id(), any::<bool>(), any_headers()).prop_map(|(id, fin, headers)| Frame::SynReply {
            id,
            fin,
            headers
        }),
        (id(), any::<bool>(), any_headers()).prop_map(|(id, fin, headers)| Frame::Headers {
            id,
            fin,
            headers
        }),
        (id(), 1u32..).prop_map(|(id, status)| Frame::RstStream { id, status }),
        (any::<bool>(), prop::collection::vec(setting, 0..9))
            .prop_map(|(clear, entries)| Frame::Settings { clear, entries }),
        (1u32..).prop_map(Frame::Ping),
        (0..CONTROL, any::<u32>()).prop_map(|(last, status)| Frame::GoAway { last, status }),
        (0..CONTROL, 0..CONTROL).prop_map(|(id, delta)| Frame::WindowUpdate { id, delta }),
        (
            id(),
            any::<bool>(),
            prop::collection::vec(any::<u8>(), 0..300)
        )
            .prop_map(|(id, fin, bytes)| Frame::Data {
                id,
                fin,
                bytes: bytes.into()
            }),
    ]
}

proptest! {
    #[test]
    fn decode_of_encode_is_identity_in_any_cut(
        frames in prop::collection::vec(any_frame(), 0..12),
        chunk in 1usize..200,
    ) {
        let (found, error, between) = decode(&encode(&frames), chunk);
        prop_assert_eq!(error, None);
        prop_assert!(between);
        prop_assert_eq!(found, frames);
    }

    #[test]
    fn any_cut_of_damaged_bytes_gives_the_same(
        frames in prop::collection::vec(any_frame(), 1..6),
        at: prop::sample::Index,
        bit in 0u8..8,
        chunk in 1usize..50,
    ) {
        let mut wire = encode(&frames);
        let at = at.index(wire.len());
        wire[at] ^= 1 << bit;
        prop_assert_eq!(decode(&wire, chunk), decode(&wire, usize::MAX));
    }

    #[test]
    fn no_bytes_panic(bytes: Vec<u8>, kind in 1u16..10, chunk in 1usize..9) {
        decode(&bytes, chunk);
        // With a header that is right, so that the payload is reached.
        let mut frame = vec![0x80, 3, 0, kind as u8];
        frame.extend((bytes.len() as u32).to_be_bytes());
        frame.extend(&bytes);
        decode(&frame, chunk);
    }
}

#[test]
fn data_beyond_the_longest_frame_is_cut() {
    let bytes = Bytes::from(vec![7; MAX_DATA + 5]);
    let frame = Frame::Data {
        id: id(1),
        fin: true,
        bytes: bytes.clone(),
    };
    let mut input = encode(&[frame]);
    assert_eq!(input.len(), bytes.len() + 2 * HEADER);
    let mut decoder = Decoder::default();
    let (mut length, mut ends) = (0, 0);
    while let Some(frame) = decoder.next(&mut input).unwrap() {
        let Frame::Data { fin, bytes, .. } = frame else {
            panic!("{frame:?}");
        };
        length += bytes.len();
        ends += usize::from(fin);
    }
    assert_eq!((length, ends), (bytes.len(), 1));
}
