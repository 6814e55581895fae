//! Handles, numbers, digests, and where paths lead.

use super::*;

/// `SSH_FXP_READ` of a handle, with this number.
fn read(id: u32) -> Vec<u8> {
    let mut body = vec![5];
    body.extend(id.to_be_bytes());
    body.extend(1u32.to_be_bytes());
    body.push(b'h');
    body.extend(0u64.to_be_bytes());
    body.extend(9u32.to_be_bytes());
    let mut packet = (body.len() as u32).to_be_bytes().to_vec();
    packet.extend(body);
    packet
}

/// A request of this kind for a path or a handle.
fn about(kind: u8, id: u32, what: &[u8], more: &[u8]) -> Vec<u8> {
    let mut body = vec![kind];
    body.extend(id.to_be_bytes());
    body.extend((what.len() as u32).to_be_bytes());
    body.extend(what);
    body.extend(more);
    let mut packet = (body.len() as u32).to_be_bytes().to_vec();
    packet.extend(body);
    packet
}

/// What is decided of it, if anything.
fn asked(sftp: &Sftp, packet: &[u8]) -> Option<String> {
    let packet = Bytes::copy_from_slice(packet);
    let asked = sftp.asked(&sftp::request(&packet).unwrap().request)?;
    Some(match asked {
        Asked::Ssh(SshAsked::Files(files)) => {
            format!("{} {}", files.action.as_str(), files.paths.join(" "))
        }
        Asked::Undecidable(why) => why.to_string(),
        other => format!("{other:?}"),
    })
}

fn with_open(handle: &'static [u8]) -> Sftp {
    let mut sftp = Sftp::begun_by(ExchangeId(1));
    sftp.home = Home::Known(Some("/home/deploy".to_owned()));
    let open = Open {
        closing: false,
        path: "/srv/x".into(),
        exchange: ExchangeId(1),
        read: Flow::default(),
        written: Flow::default(),
    };
    sftp.open.insert(Bytes::from_static(handle), open);
    sftp
}

#[test]
fn where_a_path_leads_is_a_question_about_the_path() {
    let sftp = with_open(b"h");
    for path in [".", "", "/home/deploy"] {
        assert_eq!(
            asked(&sftp, &about(16, 1, path.as_bytes(), b"")),
            None,
            "{path}"
        );
    }
    for (path, told) in [
        ("/etc/ssl", "stat /etc/ssl"),
        ("x", "stat /home/deploy/x"),
        ("..", "stat /home"),
    ] {
        let told = Some(told.to_owned());
        assert_eq!(asked(&sftp, &about(16, 1, path.as_bytes(), b"")), told);
    }
    let expand = |path: &str| {
        let mut more = (path.len() as u32).to_be_bytes().to_vec();
        more.extend(path.as_bytes());
        asked(&sftp, &about(200, 1, b"expand-path@openssh.com", &more))
    };
    assert_eq!(expand("~"), None);
    assert_eq!(expand("~/x").as_deref(), Some("stat /home/deploy/x"));
    assert!(expand("~root/x").unwrap().contains("does not know"));
}

/// The server may give the handle to another file before the client hears that it is closed.
#[test]
fn a_handle_that_is_being_closed_is_no_file() {
    let mut sftp = with_open(b"h");
    let mode = 0x0000_0004_0000_01b6u64.to_be_bytes();
    let change = about(10, 3, b"h", &mode);
    assert_eq!(asked(&sftp, &change).as_deref(), Some("setstat /srv/x"));
    let close = Bytes::from(about(4, 2, b"h", b""));
    sftp.forwarded(&close, ExchangeId(1));
    for packet in [change, about(4, 4, b"h", b""), read(5)] {
        let said = asked(&sftp, &packet).unwrap();
        assert!(said.contains("not open"), "{said}");
    }
    // Nor does the answer to CLOSE close what has the handle by then.
    let path = "/srv/y".into();
    let exchange = ExchangeId(2);
    sftp.pending.insert(9, Pending::Opening { path, exchange });
    let handle = Bytes::from_static(b"h");
    sftp.understood(&Reply::Handle { id: 9, handle });
    sftp.understood(&Reply::Status {
        id: 2,
        code: sftp::OK,
    });
    let change = about(10, 3, b"h", &mode);
    assert_eq!(asked(&sftp, &change).as_deref(), Some("setstat /srv/y"));
}

#[test]
fn what_was_copied_or_cut_within_a_file_has_no_digest() {
    let mut sftp = with_open(b"h");
    let content = |id| {
        let mut more = 0u64.to_be_bytes().to_vec();
        more.extend(3u32.to_be_bytes());
        more.extend(b"abc");
        Bytes::from(about(6, id, b"h", &more))
    };
    sftp.forwarded(&content(1), ExchangeId(1));
    // Size 0 (SSH_FILEXFER_ATTR_SIZE).
    let cut = [&[0, 0, 0, 1][..], &[0; 8]].concat();
    let cut = Bytes::from(about(10, 2, b"h", &cut));
    sftp.forwarded(&cut, ExchangeId(1));
    sftp.close(&Bytes::from_static(b"h"));
    let told = sftp.transfers.pop_front().unwrap();
    assert_eq!((told.written.bytes, told.written.digest), (3, None));
    // Modes, and the size that it has, leave it as it is.
    let mode = [0, 0, 0, 4, 0, 0, 1, 0xa4];
    let whole = [&[0, 0, 0, 1][..], &3u64.to_be_bytes()].concat();
    for attributes in [&mode[..], &whole] {
        let mut sftp = with_open(b"h");
        sftp.forwarded(&content(1), ExchangeId(1));
        let packet = about(10, 2, b"h", attributes);
        sftp.forwarded(&Bytes::from(packet), ExchangeId(1));
        sftp.close(&Bytes::from_static(b"h"));
        let told = sftp.transfers.pop_front().unwrap();
        assert!(told.written.digest.is_some());
    }
}

#[test]
fn a_number_is_not_used_again_before_its_answer_and_data_is_content() {
    let mut sftp = with_open(b"h");
    sftp.home = Home::Unasked;
    let (mut last, mut events) = (ExchangeId(1), VecDeque::new());
    sftp.take_from_client(&read(7)).unwrap();
    sftp.requests(&mut last, &mut events).unwrap();
    let data = Reply::Data {
        id: 7,
        data: Bytes::from_static(b"x"),
    };
    // Nothing was noted of it as forwarded, and content it is.
    assert!(matches!(sftp.understood(&data), Some(PartKind::File)));
    sftp.take_from_client(&read(7)).unwrap();
    sftp.requests(&mut last, &mut events).unwrap();
    sftp.take_from_client(&read(7)).unwrap();
    let again = sftp.requests(&mut last, &mut events);
    assert_eq!(again, Err(Malformed::Repeated(7)));
}
