//! DataRow and RowDescription: a row that was walked is rebuilt byte for byte.
#![no_main]

use bytes::{Bytes, BytesMut};
use hoop::wire::postgres::frame::split;
use hoop::wire::postgres::rows::{RowWriter, bodies, describe, description, values};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    bodies(bytes).for_each(drop);
    if let Ok(row) = values(bytes).and_then(|v| v.collect::<Result<Vec<_>, _>>()) {
        let mut out = BytesMut::new();
        let mut writer = RowWriter::new(&mut out);
        row.iter().for_each(|v| writer.push(*v));
        writer.finish();
        assert_eq!(&out[5..], bytes);
    }
    if let Ok(fields) = description(Bytes::copy_from_slice(bytes)) {
        let mut out = BytesMut::new();
        describe(&fields, &mut out);
        let (_, body) = split(&mut out, usize::MAX).unwrap().unwrap();
        assert_eq!(description(body), Ok(fields));
    }
});
