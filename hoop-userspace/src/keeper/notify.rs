//! What the service manager is told (sd_notify(3)): a few lines of text in one datagram.
//!
//! Own code rather than a library: the protocol is `KEY=VALUE` lines to the socket that
//! `NOTIFY_SOCKET` names.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// The service manager's ear, if there is one.
pub struct Notify {
    socket: Option<(UnixDatagram, SocketAddr)>,
    watchdog: Option<Duration>,
}

impl Notify {
    /// Finds the service manager in the environment.
    pub fn from_environment() -> Self {
        let socket = std::env::var("NOTIFY_SOCKET")
            .ok()
            .and_then(|name| open(&name));
        // WATCHDOG_PID names us, or is absent; for any other process the watchdog is not meant.
        let ours = match std::env::var("WATCHDOG_PID") {
            Ok(pid) => pid.parse() == Ok(std::process::id()),
            Err(_) => true,
        };
        let micros = std::env::var("WATCHDOG_USEC")
            .ok()
            .and_then(|t| t.parse().ok());
        let watchdog = micros.filter(|_| ours).map(Duration::from_micros);
        Self { socket, watchdog }
    }

    /// How often to call [`Notify::alive`]: half of what the service manager waits.
    pub fn watchdog_interval(&self) -> Option<Duration> {
        self.watchdog.map(|t| t / 2).filter(|t| !t.is_zero())
    }

    pub fn ready(&self, status: &str) {
        self.tell(&format!("READY=1\nSTATUS={status}"));
    }

    /// To be followed by [`Notify::ready`], whether the reload succeeded or not.
    pub fn reloading(&self) {
        // The manager orders this against its own request by the monotonic clock.
        let now = clock_gettime(ClockId::CLOCK_MONOTONIC)
            .map(Duration::from)
            .unwrap_or_default();
        self.tell(&format!("RELOADING=1\nMONOTONIC_USEC={}", now.as_micros()));
    }

    pub fn status(&self, status: &str) {
        self.tell(&format!("STATUS={status}"));
    }

    pub fn alive(&self) {
        self.tell("WATCHDOG=1");
    }

    /// Waits for something that may take longer than the service manager waits for a sign of life.
    pub async fn alive_until<T>(&self, done: impl Future<Output = T>) -> T {
        let interval = self.watchdog_interval().unwrap_or(Duration::from_secs(5));
        tokio::pin!(done);
        loop {
            self.alive();
            if let Ok(done) = tokio::time::timeout(interval, done.as_mut()).await {
                return done;
            }
        }
    }

    pub fn stopping(&self) {
        self.tell("STOPPING=1");
    }

    fn tell(&self, lines: &str) {
        let Some((socket, address)) = &self.socket else {
            return;
        };
        if let Err(error) = socket.send_to_addr(lines.as_bytes(), address) {
            tracing::debug!(%error, "the service manager could not be told");
        }
    }
}

fn open(name: &str) -> Option<(UnixDatagram, SocketAddr)> {
    let address = match name.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(name),
    };
    let opened = address.and_then(|address| Ok((UnixDatagram::unbound()?, address)));
    if let Err(error) = &opened {
        tracing::warn!(%error, name, "NOTIFY_SOCKET cannot be used");
    }
    let (socket, address) = opened.ok()?;
    // A service manager that does not read must not stop us.
    socket.set_nonblocking(true).ok()?;
    Some((socket, address))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_reach_a_socket_by_path_and_by_abstract_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let by_path = UnixDatagram::bind(&path).unwrap();
        let name = format!("hoop-notify-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let by_name = UnixDatagram::bind_addr(&address).unwrap();
        for (name, ear) in [
            (path.display().to_string(), by_path),
            (format!("@{name}"), by_name),
        ] {
            let notify = Notify {
                socket: open(&name),
                watchdog: Some(Duration::from_secs(4)),
            };
            notify.ready("well");
            let mut line = [0; 64];
            let length = ear.recv(&mut line).unwrap();
            assert_eq!(&line[..length], b"READY=1\nSTATUS=well");
            assert_eq!(notify.watchdog_interval(), Some(Duration::from_secs(2)));
        }
    }

    #[test]
    fn without_a_service_manager_nothing_happens() {
        let notify = Notify {
            socket: None,
            watchdog: None,
        };
        notify.reloading();
        notify.alive();
        assert_eq!(notify.watchdog_interval(), None);
    }

    #[tokio::test]
    async fn signs_of_life_are_given_while_something_lasts() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let ear = UnixDatagram::bind(&path).unwrap();
        ear.set_nonblocking(true).unwrap();
        let notify = Notify {
            socket: open(&path.display().to_string()),
            watchdog: Some(Duration::from_millis(20)),
        };
        let lasting = tokio::time::sleep(Duration::from_millis(100));
        notify.alive_until(lasting).await;
        let mut signs = 0;
        while ear.recv(&mut [0; 64]).is_ok() {
            signs += 1;
        }
        assert!(signs > 1, "{signs}");
    }
}
