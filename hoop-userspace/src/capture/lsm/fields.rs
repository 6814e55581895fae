//! Which fields the LSM programs look at, found by name in the kernel's types and checked by kind.
//!
//! A field that is missing, or is something else than it was when the programs were written, keeps the
//! tier off: a wrong place would be read as something that it is not.

use hoop_common::Fields;

use super::LsmOff;
use super::btf::{Btf, Shape};

/// Places of all fields.
pub fn find(types: &[u8]) -> Result<Fields, LsmOff> {
    let btf = Btf::parse(types).ok_or_else(|| LsmOff::NoTypes("they cannot be read".into()))?;
    let look = |name: &'static str, record: &str, path: &[&str], shape: Shape| {
        let found = btf.place(record, path).filter(|place| place.shape == shape);
        found.map(|p| p.offset).ok_or(LsmOff::NoField(name))
    };
    // A `struct unix_sock` is taken for the `struct sock` that it begins with.
    if btf.place("unix_sock", &["sk"]).map(|place| place.offset) != Some(0) {
        return Err(LsmOff::NoField("unix_sock.sk"));
    }
    let common = |name, field, shape| look(name, "sock", &["__sk_common", field], shape);
    let pointer = Shape::Pointer;
    let path = look("unix_address.name", "unix_address", &["name"], Shape::Array)?;
    let in_address = look(
        "sockaddr_un.sun_path",
        "sockaddr_un",
        &["sun_path"],
        Shape::Array,
    )?;
    Ok(Fields {
        socket_sk: look("socket.sk", "socket", &["sk"], pointer)?,
        sock_family: common("sock.skc_family", "skc_family", Shape::Number(2))?,
        sock_protocol: look(
            "sock.sk_protocol",
            "sock",
            &["sk_protocol"],
            Shape::Number(2),
        )?,
        sock_port: common("sock.skc_dport", "skc_dport", Shape::Number(2))?,
        sock_peer4: common("sock.skc_daddr", "skc_daddr", Shape::Number(4))?,
        sock_peer6: common("sock.skc_v6_daddr", "skc_v6_daddr", Shape::Record(16))?,
        sock_cgroup: look(
            "sock.sk_cgrp_data.cgroup",
            "sock",
            &["sk_cgrp_data", "cgroup"],
            pointer,
        )?,
        cgroup_node: look("cgroup.kn", "cgroup", &["kn"], pointer)?,
        node_id: look("kernfs_node.id", "kernfs_node", &["id"], Shape::Number(8))?,
        unix_address: look("unix_sock.addr", "unix_sock", &["addr"], pointer)?,
        unix_dentry: look("unix_sock.path", "unix_sock", &["path", "dentry"], pointer)?,
        unix_peer: look("unix_sock.peer", "unix_sock", &["peer"], pointer)?,
        address_length: look(
            "unix_address.len",
            "unix_address",
            &["len"],
            Shape::Number(4),
        )?,
        address_path: path + in_address,
        dentry_name: look("dentry.d_name", "dentry", &["d_name", "name"], pointer)?,
        reserved: 0,
    })
}

#[cfg(test)]
mod tests {
    use super::super::btf::tests::Types;
    use super::*;

    /// A kernel in small: the structures with a few fields each, some of them in unnamed unions.
    fn kernel(without: &str) -> Vec<u8> {
        let mut types = Types::new();
        let short = types.int("short unsigned int", 2);
        let int = types.int("unsigned int", 4);
        let long = types.int("long unsigned int", 8);
        let port = types.typedef("__be16", short);
        let pointer = types.pointer(0);
        let bytes = types.array(int);
        let v6 = types.record("in6_addr", 16, &[("words", bytes, 0)]);
        let addresses = types.record("", 8, &[("skc_daddr", int, 0), ("skc_rcv_saddr", int, 4)]);
        let union = types.union("", 8, &[("skc_addrpair", long, 0), ("", addresses, 0)]);
        let common = types.record(
            "sock_common",
            64,
            &[
                ("", union, 0),
                ("skc_dport", port, 12),
                ("skc_family", short, 16),
                ("skc_v6_daddr", v6, 32),
            ],
        );
        let group = types.record("sock_cgroup_data", 8, &[("cgroup", pointer, 0)]);
        let mut sock = vec![("__sk_common", common, 0), ("sk_cgrp_data", group, 200)];
        if without != "sk_protocol" {
            sock.push(("sk_protocol", short, 150));
        }
        let sock = types.record("sock", 256, &sock);
        types.record("socket", 64, &[("state", int, 0), ("sk", pointer, 24)]);
        types.record("cgroup", 64, &[("kn", pointer, 40)]);
        types.record("kernfs_node", 64, &[("id", long, 48)]);
        let path = types.record("path", 16, &[("mnt", pointer, 0), ("dentry", pointer, 8)]);
        let first = if without == "sk" { 8 } else { 0 };
        types.record(
            "unix_sock",
            512,
            &[
                ("sk", sock, first),
                ("addr", pointer, 264),
                ("path", path, 272),
                ("peer", pointer, 320),
            ],
        );
        let length = if without == "len" { long } else { int };
        types.record("unix_address", 8, &[("len", length, 4), ("name", bytes, 8)]);
        types.record(
            "sockaddr_un",
            110,
            &[("sun_family", short, 0), ("sun_path", bytes, 2)],
        );
        let name = types.record("qstr", 16, &[("hash_len", long, 0), ("name", pointer, 8)]);
        let constant = types.constant(name);
        let either = types.union("", 16, &[("__d_name", name, 0), ("d_name", constant, 0)]);
        types.record("dentry", 128, &[("d_flags", int, 0), ("", either, 32)]);
        types.bytes()
    }

    #[test]
    fn every_field_is_found_where_it_is() {
        let fields = find(&kernel("")).unwrap();
        let expected = Fields {
            socket_sk: 24,
            sock_family: 16,
            sock_protocol: 150,
            sock_port: 12,
            sock_peer4: 0,
            sock_peer6: 32,
            sock_cgroup: 200,
            cgroup_node: 40,
            node_id: 48,
            unix_address: 264,
            unix_dentry: 280,
            unix_peer: 320,
            address_length: 4,
            address_path: 10,
            dentry_name: 40,
            reserved: 0,
        };
        assert_eq!(fields, expected);
    }

    #[test]
    fn a_field_that_is_gone_or_another_is_named() {
        let missing = |without| find(&kernel(without)).unwrap_err();
        assert_eq!(missing("sk_protocol"), LsmOff::NoField("sock.sk_protocol"));
        assert_eq!(missing("len"), LsmOff::NoField("unix_address.len"));
        assert_eq!(missing("sk"), LsmOff::NoField("unix_sock.sk"));
        assert!(matches!(find(b"no types"), Err(LsmOff::NoTypes(_))));
    }

    /// Wherever these tests run there is a kernel to compare with.
    #[test]
    fn this_kernels_fields_are_found() {
        if let Ok(types) = std::fs::read(super::super::TYPES) {
            let fields = find(&types).unwrap();
            assert!(fields.sock_family > 0 && fields.unix_address > fields.sock_cgroup);
        }
    }
}
