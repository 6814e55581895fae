//! Names of Unix sockets, as the kernel looks them up: by the longest entry that they begin with.

use std::collections::BTreeMap;

use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{MapData, MapError};
use hoop_common::socket_name;

use super::super::CaptureError;
use super::super::rules::removed;
use crate::config::{LsmTier, SocketBy, SocketPattern};

pub const MAP: &str = "SOCKET_NAMES";

type Data = [u8; socket_name::BYTES];
pub type Names = LpmTrie<MapData, Data, u32>;

/// Bits that count, and what they are compared with.
type Entry = (u32, Data);

/// Makes the map hold exactly what the configuration says. What goes is removed last: between the two
/// nothing is open that neither opens.
pub fn set(map: &mut Names, tier: &LsmTier) -> Result<(), CaptureError> {
    let wanted = entries(tier);
    if wanted.len() > hoop_common::size::SOCKET_NAMES {
        return Err(CaptureError::TooMany {
            map: MAP,
            most: hoop_common::size::SOCKET_NAMES,
        });
    }
    let failed = |source: MapError| CaptureError::Map { map: MAP, source };
    let held: Vec<Key<Data>> = map.keys().filter_map(Result::ok).collect();
    for ((bits, data), value) in &wanted {
        map.insert(&Key::new(*bits, *data), *value, 0)
            .map_err(failed)?;
    }
    for key in held {
        if !wanted.contains_key(&(key.prefix_len(), key.data())) {
            removed(MAP, map.remove(&key))?;
        }
    }
    Ok(())
}

fn entries(tier: &LsmTier) -> BTreeMap<Entry, u32> {
    let refused = tier.refused.iter().map(entry);
    let mut entries: BTreeMap<Entry, u32> =
        refused.map(|entry| (entry, socket_name::REFUSED)).collect();
    // Last, and so whatever the same pattern says otherwise.
    let own = key(socket_name::ADDRESS, &tier.own_folder(), true);
    entries.insert(own, socket_name::ALLOWED);
    entries
}

fn entry(pattern: &SocketPattern) -> Entry {
    let kind = match pattern.by() {
        SocketBy::Address => socket_name::ADDRESS,
        SocketBy::File => socket_name::FILE,
    };
    key(kind, pattern.name(), pattern.is_open())
}

/// A whole name ends with the zero that follows it, which the kernel's copy has as well.
fn key(kind: u8, name: &[u8], open: bool) -> Entry {
    let mut data = [0; socket_name::BYTES];
    let bytes = std::iter::once(&kind).chain(name);
    let mut counted: u32 = if open { 0 } else { 1 };
    // A pattern is shorter than a key, as its parser sees to.
    for (to, from) in data.iter_mut().zip(bytes) {
        *to = *from;
        counted += 1;
    }
    (8 * counted, data)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::LsmWish;
    use proptest::prelude::*;

    /// What the kernel does: its copy of a name, and the longest entry that this begins with.
    fn look_up(entries: &BTreeMap<Entry, u32>, kind: u8, name: &[u8]) -> u32 {
        let (_, copy) = key(kind, name, false);
        let fits = |(bits, data): &&Entry| {
            let bytes = usize::try_from(bits / 8).unwrap();
            data[..bytes] == copy[..bytes]
        };
        let longest = entries.keys().filter(fits).max_by_key(|(bits, _)| *bits);
        longest.map_or(0, |entry| entries[entry])
    }

    fn refuses(tier: &LsmTier, address: &[u8], file: Option<&[u8]>) -> bool {
        let entries = entries(tier);
        match look_up(&entries, socket_name::ADDRESS, address) {
            0 => file.is_some_and(|file| {
                let bound = address.rsplit(|byte| *byte == b'/').next().unwrap();
                let refused =
                    |name| look_up(&entries, socket_name::FILE, name) == socket_name::REFUSED;
                refused(bound) || refused(file)
            }),
            found => found == socket_name::REFUSED,
        }
    }

    fn tier(patterns: &[String]) -> LsmTier {
        LsmTier {
            wish: LsmWish::Auto,
            refused: patterns
                .iter()
                .map(|text| SocketPattern::parse(text).unwrap())
                .collect(),
            own: "/run/hoop".into(),
        }
    }

    #[test]
    fn hoops_own_sockets_stay_within_reach() {
        let mut all = tier(&["/*".into(), "*/*".into(), "@*".into(), "/run/hoop/*".into()]);
        all.own = "/run/hoop//".into();
        assert!(refuses(&all, b"/run/x", Some(b"x")));
        assert!(refuses(&all, b"\0x", None));
        assert!(refuses(&all, b"relative", Some(b"relative")));
        assert!(!refuses(
            &all,
            b"/run/hoop/control.sock",
            Some(b"control.sock")
        ));
        assert!(refuses(
            &all,
            b"/run/hooper/control.sock",
            Some(b"control.sock")
        ));
    }

    #[test]
    fn a_file_that_is_renamed_is_refused_by_either_name() {
        let default = LsmTier::default();
        let (bound, other) = (b"/tmp/.s.PGSQL.5432", b"innocent");
        assert!(refuses(&default, bound, Some(other)));
        assert!(refuses(&default, b"/tmp/innocent", Some(b".s.PGSQL.5432")));
        assert!(!refuses(&default, b"/tmp/innocent", Some(other)));
    }

    #[test]
    fn the_default_fits_into_the_map() {
        assert!(entries(&LsmTier::default()).len() < hoop_common::size::SOCKET_NAMES);
    }

    proptest! {
        /// The kernel refuses what any of the patterns means, and nothing else.
        #[test]
        fn the_kernel_decides_as_the_patterns_say(
            patterns in prop::collection::vec("(/|@|\\*/)[ab.]{1,4}\\*?", 0..6),
            folder in "/[ab]{0,3}/",
            file in "[ab.]{1,6}",
            hidden: bool,
        ) {
            let tier = tier(&patterns);
            let path = format!("{folder}{file}");
            let (address, file) = match hidden {
                true => (format!("\0{file}"), None),
                false => (path, Some(file.as_bytes())),
            };
            let meant = tier.refused.iter().any(|p| p.fits(address.as_bytes(), file));
            prop_assert_eq!(refuses(&tier, address.as_bytes(), file), meant);
        }
    }
}
