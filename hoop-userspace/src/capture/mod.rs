//! Stage 1: load, attach, pin; read the maps; names seen.
//!
//! [`Capture`] is the daemon's hold on the kernel programs. Dropping it changes nothing in the
//! kernel: links and maps are pinned, connections are then refused (enforce) or go direct
//! (observe) until a daemon is back, which takes the pins over. [`Capture::unload`] ends it.

use std::net::{IpAddr, TcpListener};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aya::Ebpf;
use aya::maps::{HashMap, Map, MapData, MapError, RingBuf, SkStorage};
use hoop_common::{Address, FlowKey, ListenKey, Origin, Proxy, Socket, flag};

use crate::config;

mod bypass;
mod error;
mod events;
mod inherited;
mod links;
mod lsm;
pub(crate) mod names;
mod object;
mod pins;
mod probe;
mod rules;
pub mod sockets;
pub(crate) mod sys;

pub use bypass::{Bypasses, boot_now};
pub use error::CaptureError;
pub use events::{
    Events, Observed, Reason, Verdict, address, destination, kernel_address, unix_name,
};
pub use inherited::close_inherited_on_exec;
pub use links::HookHealth;
pub use lsm::{Lsm, LsmOff};
pub use probe::{Feature, features};
pub use sys::{Clock, clock};

/// The daemon's hold on the kernel programs.
pub struct Capture {
    slice: PathBuf,
    pins: pins::Pins,
    /// What this daemon's listeners carry: a new one for each start, and the same after an upgrade,
    /// which goes on with the listeners.
    nonce: u64,
    flows: MapData,
    lsm: Lsm,
    lsm_lost: bool,
    inner: Mutex<Inner>,
}

struct Inner {
    object: Ebpf,
    links: links::Links,
    sockets: SkStorage<MapData, Socket>,
    flows: HashMap<MapData, FlowKey, Origin>,
    modes: HashMap<MapData, u64, u32>,
    proxies: HashMap<MapData, u64, Proxy>,
    resolvers: HashMap<MapData, Address, u32>,
    listen: HashMap<MapData, ListenKey, u32>,
    socket_names: lsm::names::Names,
    reports: Option<(RingBuf<MapData>, RingBuf<MapData>)>,
}

impl Capture {
    /// Fails with everything that hoop needs of the kernel and that it lacks.
    pub fn kernel() -> Result<(), CaptureError> {
        probe::kernel()
    }

    /// Loads the programs and attaches them to the slice, taking over what an earlier daemon
    /// pinned; on return every hook is attached, or this fails.
    pub fn load(config: &config::Capture) -> Result<Self, CaptureError> {
        Self::load_with(config, nonce()?)
    }

    /// The same for listeners that are taken over, which carry this nonce.
    pub fn take_over(config: &config::Capture, nonce: u64) -> Result<Self, CaptureError> {
        // 0 is what every other socket has.
        Self::load_with(config, if nonce == 0 { self::nonce()? } else { nonce })
    }

    fn load_with(config: &config::Capture, nonce: u64) -> Result<Self, CaptureError> {
        let slice = slice_path(config)?;
        let opened = links::Slice::open(&slice)?;
        if !object::embedded() {
            return Err(CaptureError::NoObject);
        }
        probe::kernel()?;
        let pins = pins::Pins::at(&config.pins);
        pins.make()?;
        // What an earlier daemon left may be of a slice that was removed since.
        if !is_whole(&links::pinned_health(&pins.links(), Some(&opened))) {
            pins.unmark()?;
        }
        let fields = lsm::ready(config.lsm.wish);
        let maps = pins.maps();
        let mut object = object::load(object::Maps::Kept(&maps), fields.as_ref().ok())?;
        object::log_lines(&mut object);
        let mut socket_names = map(&mut object, lsm::names::MAP)?;
        let mut links = links::Links::establish(&object, &opened, pins.links())?;
        let before = links.any_lsm();
        let ready = fields
            .and_then(|_| lsm::load(&mut object))
            // Before its programs meet anybody.
            .and_then(|()| {
                lsm::names::set(&mut socket_names, &config.lsm)
                    .map_err(|error| LsmOff::NoNames(error.to_string()))
            });
        let lsm = match ready {
            Ok(()) => with_lsm(&mut links, &object, &opened),
            Err(why) => Lsm::Off(why),
        };
        let lsm_lost = before && matches!(lsm, Lsm::Off(_));
        if let Lsm::Off(why) = &lsm {
            // What is there of it goes on refusing while no daemon starts.
            if config.lsm.wish == config::LsmWish::Require {
                return Err(CaptureError::NoLsm { why: why.clone() });
            }
            links.without_lsm()?;
            if lsm_lost {
                tracing::warn!(%why, "the LSM tier was on, and is off now");
            }
        }
        pins.remove_others()?;
        pins.mark()?;
        let flows = map(&mut object, "FLOWS")?;
        let path = pins.maps().join("FLOWS");
        let raw_flows = MapData::from_pin(&path).map_err(|source| CaptureError::Maps {
            source,
            folder: pins.maps(),
        })?;
        let reports = (map(&mut object, "EVENTS")?, map(&mut object, "NAMES")?);
        let capture = Self {
            slice,
            pins,
            nonce,
            flows: raw_flows,
            lsm,
            lsm_lost,
            inner: Mutex::new(Inner {
                links,
                sockets: map(&mut object, "SOCKETS")?,
                flows,
                modes: map(&mut object, "MODES")?,
                proxies: map(&mut object, "PROXIES")?,
                resolvers: map(&mut object, "RESOLVERS")?,
                listen: map(&mut object, "LISTEN")?,
                socket_names,
                reports: Some(reports),
                object,
            }),
        };
        capture.set_resolvers(&config.resolvers)?;
        Ok(capture)
    }

    /// Has the kernel verify every program, with maps of their own, and lets go of all of it: nothing
    /// is attached or pinned. Says how many programs that were, and whether the LSM tier's would be
    /// among those that are attached.
    pub fn rehearse() -> Result<(usize, Result<(), LsmOff>), CaptureError> {
        let fields = lsm::ready(config::LsmWish::Auto);
        let mut object = object::load(object::Maps::Own, fields.as_ref().ok())?;
        let lsm = fields.and_then(|_| lsm::load(&mut object));
        let without = if lsm.is_ok() { 0 } else { lsm::program_count() };
        Ok((object.programs().count() - without, lsm))
    }

    /// Whether this kernel takes this build's programs, with the maps that are pinned where they
    /// are of this layout; those of the LSM tier, if the configuration requires it. Attaches and pins
    /// nothing.
    pub fn rehearse_takeover(config: &config::Capture) -> Result<(), CaptureError> {
        links::Slice::open(&slice_path(config)?)?;
        probe::kernel()?;
        let maps = pins::Pins::at(&config.pins).maps();
        let fields = lsm::ready(config.lsm.wish);
        let mut object = object::load(object::Maps::Pinned(&maps), fields.as_ref().ok())?;
        match fields.and_then(|_| lsm::load(&mut object)) {
            Err(why) if config.lsm.wish == config::LsmWish::Require => {
                Err(CaptureError::NoLsm { why })
            }
            Err(why) => {
                tracing::debug!(%why, "the LSM tier would be off");
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }

    /// What the listeners carry.
    pub fn nonce(&self) -> u64 {
        self.nonce
    }

    /// Whether pins there would be in a BPF file system.
    pub fn has_bpf_fs(pins: &Path) -> bool {
        pins::under_bpffs(pins)
    }

    /// Removes all links and maps that any version pinned there: governance ends. Says whether there
    /// were any.
    pub fn unload(pins: &Path) -> Result<bool, CaptureError> {
        pins::Pins::at(pins).remove_all()
    }

    /// What is pinned, whether or not a daemon runs.
    pub fn pinned_health(config: &config::Capture) -> Result<Vec<HookHealth>, CaptureError> {
        let slice = links::Slice::open(&slice_path(config)?).ok();
        let folder = pins::Pins::at(&config.pins).links();
        Ok(links::pinned_health(&folder, slice.as_ref()))
    }

    /// Whether the LSM tier is attached, whether or not a daemon runs; and if not, what this kernel
    /// says of it.
    pub fn pinned_lsm(config: &config::Capture) -> Result<Lsm, CaptureError> {
        let slice = links::Slice::open(&slice_path(config)?).ok();
        let folder = pins::Pins::at(&config.pins).links();
        Ok(match links::pinned_lsm(&folder, slice.as_ref()) {
            0 => Lsm::Off(
                lsm::ready(config.lsm.wish)
                    .err()
                    .unwrap_or(LsmOff::NotAttached),
            ),
            hooks => Lsm::of_hooks(hooks),
        })
    }

    /// The ports of the listeners that are pinned, whether or not a daemon runs.
    pub fn pinned_ports(config: &config::Capture) -> Result<Vec<u16>, CaptureError> {
        let proxies: HashMap<MapData, u64, Proxy> = pinned(config, "PROXIES")?;
        let found = proxies.iter().filter_map(Result::ok);
        Ok(found.flat_map(|(_, p)| [p.port4, p.port6]).collect())
    }

    /// The resolvers that are pinned, whether or not a daemon runs.
    pub fn pinned_resolvers(config: &config::Capture) -> Result<Vec<IpAddr>, CaptureError> {
        let resolvers: HashMap<MapData, Address, u32> = pinned(config, "RESOLVERS")?;
        Ok(resolvers
            .keys()
            .filter_map(Result::ok)
            .map(address)
            .collect())
    }

    /// Makes a listener on loopback the one that connections of its network namespace are
    /// redirected to, for its address family.
    pub fn listen_marked(&self, listener: &TcpListener) -> Result<(), CaptureError> {
        let local = listener.local_addr().map_err(CaptureError::Listener)?;
        let cookie = sys::netns_cookie(listener.as_fd()).map_err(CaptureError::Listener)?;
        let mut inner = self.inner();
        let blessed = Socket {
            nonce: self.nonce,
            flags: flag::EXEMPT,
            ..Socket::default()
        };
        let failed = |map| move |source| CaptureError::Map { map, source };
        inner
            .sockets
            .insert(listener, blessed, 0)
            .map_err(failed("SOCKETS"))?;
        let known = inner
            .proxies
            .get(&cookie, 0)
            .ok()
            .filter(|proxy| proxy.nonce == self.nonce);
        let mut proxy = known.unwrap_or(Proxy {
            nonce: self.nonce,
            ..Proxy::default()
        });
        match local.ip() {
            IpAddr::V4(_) => proxy.port4 = local.port(),
            IpAddr::V6(_) => proxy.port6 = local.port(),
        }
        inner
            .proxies
            .insert(cookie, proxy, 0)
            .map_err(failed("PROXIES"))
    }

    /// Exempts one of the daemon's own sockets, where it runs below the attach point.
    pub fn exempt(&self, socket: &impl AsFd) -> Result<(), CaptureError> {
        use std::os::fd::AsRawFd;
        let exempt = Socket {
            flags: flag::EXEMPT,
            ..Socket::default()
        };
        let fd = socket.as_fd().as_raw_fd();
        let stored = self.inner().sockets.insert(&fd, exempt, 0);
        stored.map_err(|source| CaptureError::Map {
            map: "SOCKETS",
            source,
        })
    }

    /// Forgets the listeners of a namespace; `None` forgets all but this daemon's own.
    pub fn forget_namespace(&self, cookie: Option<u64>) -> Result<(), CaptureError> {
        let nonce = self.nonce;
        let mut inner = self.inner();
        let gone: Vec<u64> = match cookie {
            Some(cookie) => vec![cookie],
            None => {
                let entries = inner.proxies.iter().filter_map(Result::ok);
                entries
                    .filter(|(_, proxy)| proxy.nonce != nonce)
                    .map(|(key, _)| key)
                    .collect()
            }
        };
        gone.iter()
            .try_for_each(|key| rules::removed("PROXIES", inner.proxies.remove(key)))
    }

    /// The ports of all listeners, this daemon's and those that an earlier one left.
    pub fn ports(&self) -> Vec<u16> {
        let inner = self.inner();
        let proxies = inner.proxies.iter().filter_map(Result::ok);
        proxies.flat_map(|(_, p)| [p.port4, p.port6]).collect()
    }

    /// Takes a redirected connection's origin; it can be taken once. A failed look-up counts as
    /// unknown, and the connection is refused.
    pub fn take_origin(&self, key: &FlowKey) -> Option<Origin> {
        match sys::take_flow(self.flows.fd().as_fd(), key) {
            Ok(origin) => origin,
            Err(error) => {
                tracing::warn!(%error, "the origin of a connection cannot be looked up");
                None
            }
        }
    }

    /// Removes origins older than `age` that nobody took (the client closed before the accept,
    /// and the accept never came). Returns how many.
    pub fn sweep(&self, age: Duration) -> usize {
        let age = u64::try_from(age.as_nanos()).unwrap_or(u64::MAX);
        let horizon = sys::now().saturating_sub(age);
        let mut inner = self.inner();
        let entries = inner.flows.iter().filter_map(Result::ok);
        let old: Vec<FlowKey> = entries
            .filter(|(_, origin)| origin.born < horizon)
            .map(|(key, _)| key)
            .collect();
        let mut swept = 0;
        for key in old {
            match self.take_origin(&key) {
                // The same addresses were used again in between: that one is alive. Should even
                // that have been replaced by now, the newer stays.
                Some(origin) if origin.born >= horizon => {
                    const BPF_NOEXIST: u64 = 1;
                    if let Err(error) = inner.flows.insert(key, origin, BPF_NOEXIST) {
                        tracing::warn!(%error, "the origin of a new connection was lost to the sweep");
                    }
                }
                Some(_) => swept += 1,
                None => {}
            }
        }
        swept
    }

    /// Origins that wait to be taken.
    pub fn waiting(&self) -> usize {
        self.inner().flows.keys().filter_map(Result::ok).count()
    }

    /// The kernel's reports. Can be called once, within a tokio runtime.
    pub fn events(&self) -> Result<Events, CaptureError> {
        let reports = self
            .inner()
            .reports
            .take()
            .ok_or(CaptureError::EventsTaken)?;
        Events::new(reports.0, reports.1).map_err(CaptureError::Events)
    }

    /// Each hook: attached to the slice as it is now, or not.
    pub fn health(&self) -> Vec<HookHealth> {
        let slice = links::Slice::open(&self.slice).ok();
        self.inner().links.health(slice.as_ref())
    }

    /// Attaches anew whatever is not attached to the slice as it is now (it was removed and made
    /// again, or a pin was taken away). Returns how many hooks that were.
    pub fn repair(&self) -> Result<usize, CaptureError> {
        if !is_whole(&self.health()) {
            self.pins.unmark()?;
        }
        let slice = links::Slice::open(&self.slice)?;
        self.pins.make()?;
        let mut inner = self.inner();
        let Inner { object, links, .. } = &mut *inner;
        let repaired = links.repair(object, &slice)?;
        self.pins.mark()?;
        Ok(repaired)
    }

    /// Whether the LSM tier is on: all of its hooks are where they should be. If it was off at the
    /// start it stays so.
    pub fn lsm(&self) -> Lsm {
        match &self.lsm {
            Lsm::On(_) => Lsm::of_hooks(links::healthy_lsm(&self.health())),
            Lsm::Off(why) => Lsm::Off(why.clone()),
        }
    }

    /// Whether an earlier daemon had it, and this one does not.
    pub fn lsm_lost(&self) -> bool {
        self.lsm_lost
    }

    /// The slice's folder.
    pub fn slice(&self) -> &Path {
        &self.slice
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        // What a panicking thread left behind are whole entries of kernel maps.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether every hook is where it should be.
fn is_whole(health: &[HookHealth]) -> bool {
    health.iter().all(|hook| hook.healthy)
}

/// Attaches the tier's programs, which are loaded.
fn with_lsm(links: &mut links::Links, object: &Ebpf, slice: &links::Slice) -> Lsm {
    match links.establish_lsm(object, slice) {
        Ok(hooks) => Lsm::On(hooks),
        Err(CaptureError::Attach { hook, source }) => Lsm::Off(LsmOff::Refused {
            program: hook,
            why: source.to_string(),
        }),
        Err(error) => Lsm::Off(LsmOff::Refused {
            program: "the LSM programs",
            why: error.to_string(),
        }),
    }
}

fn slice_path(config: &config::Capture) -> Result<PathBuf, CaptureError> {
    let below = config.attach.trim_matches('/');
    let plain = |c| matches!(c, std::path::Component::Normal(_));
    if below.is_empty() || !Path::new(below).components().all(plain) {
        return Err(CaptureError::RootCgroup);
    }
    Ok(crate::attribute::cgroup2_mount().join(below))
}

fn map<M>(object: &mut Ebpf, name: &'static str) -> Result<M, CaptureError>
where
    M: TryFrom<Map, Error = MapError>,
{
    let map = object.take_map(name).ok_or(CaptureError::NoMap(name))?;
    M::try_from(map).map_err(|source| CaptureError::Map { map: name, source })
}

/// A map of what is pinned.
fn pinned<K: aya::Pod, V: aya::Pod>(
    config: &config::Capture,
    name: &'static str,
) -> Result<HashMap<MapData, K, V>, CaptureError> {
    let folder = pins::Pins::at(&config.pins).maps();
    let data = MapData::from_pin(folder.join(name))
        .map_err(|source| CaptureError::Maps { source, folder })?;
    HashMap::try_from(Map::HashMap(data)).map_err(|source| CaptureError::Map { map: name, source })
}

fn nonce() -> Result<u64, CaptureError> {
    use std::io::Read;
    let mut bytes = [0; 8];
    let mut random = std::fs::File::open("/dev/urandom").map_err(CaptureError::Random)?;
    random
        .read_exact(&mut bytes)
        .map_err(CaptureError::Random)?;
    // 0 is what every other socket has.
    Ok(u64::from_ne_bytes(bytes) | 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(attach: &str) -> config::Capture {
        config::Capture {
            attach: attach.to_owned(),
            resolvers: Vec::new(),
            port: 0,
            pins: "/sys/fs/bpf/hoop-unit".into(),
            lsm: config::LsmTier::default(),
        }
    }

    #[test]
    fn the_root_and_what_leaves_the_tree_are_refused() {
        for attach in ["", "/", "../x", "a/../.."] {
            let path = slice_path(&config(attach));
            assert!(matches!(path, Err(CaptureError::RootCgroup)), "{attach}");
        }
        assert!(
            slice_path(&config("agents.slice"))
                .unwrap()
                .ends_with("agents.slice")
        );
    }

    #[test]
    fn a_missing_slice_is_named_with_what_to_do() {
        let Err(error) = Capture::load(&config("no-such.slice")) else {
            panic!("loaded");
        };
        assert!(
            error.to_string().contains("systemctl start no-such.slice"),
            "{error}"
        );
    }
}
