//! A reload: the file is read anew, and is in force once the worker has taken it. What the kernel
//! programs and the sockets were made with stays as it was until a restart.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::journal::Entry;
use super::supervise::Candidate;
use super::{Keeper, lock};
use crate::config::{Bundle, Config, ConfigError};

impl Keeper {
    /// A file that is not taken, by us or by the worker, changes nothing but what is said of it.
    pub(super) async fn reload(&mut self) {
        self.notify.reloading();
        let epoch = self.epoch + 1;
        let taken = self.try_reload(epoch).await;
        let error = taken.err();
        self.parts.journal.write(&Entry::Reload {
            epoch,
            error: error.clone(),
        });
        {
            let mut reload = lock(&self.parts.reload);
            if error.is_none() {
                reload.epoch = epoch;
                reload.at = time::OffsetDateTime::now_utc();
                self.epoch = epoch;
            }
            reload.error = error;
        }
        self.notify.ready(&self.line());
    }

    async fn try_reload(&self, epoch: u64) -> Result<(), String> {
        let path = self.parts.start.config.clone();
        let gathered = tokio::task::spawn_blocking(move || {
            let bundle = Bundle::gather(&path)?;
            let config = Config::from_bundle(&bundle)?;
            Ok((bundle, config))
        });
        let gathered: Result<_, ConfigError> = gathered.await.map_err(|e| e.to_string())?;
        let (bundle, config) = gathered.map_err(|e| e.to_string())?;
        unchanged(&fixed(&self.parts.config()), &fixed(&config))?;
        let candidate = candidate(epoch, &bundle);
        // Each of the two may take longer than the service manager waits for a sign.
        let worker = &self.parts.worker;
        let taken = self.notify.alive_until(worker.configure(candidate.clone()));
        taken.await?;
        let retired = worker.retired().configure(&candidate);
        self.notify.alive_until(retired).await;
        let config = Arc::new(config);
        self.parts.clerk.set_config(config.clone());
        self.parts.courier.set_config(config.clone());
        if let Some(console) = &self.console {
            console.set_bundle(&bundle);
        }
        *lock(&self.parts.config) = config;
        *lock(&self.parts.bundle) = (epoch, bundle.to_wire());
        self.governor.apply().await;
        Ok(())
    }
}

pub(super) fn candidate(epoch: u64, bundle: &Bundle) -> Arc<Candidate> {
    Arc::new(Candidate {
        epoch,
        bundle: bundle.to_wire(),
    })
}

/// What the kernel programs and the sockets were made with, by its name in the configuration.
pub(super) fn fixed(config: &Config) -> BTreeMap<String, String> {
    let console = config.console.as_ref();
    let listen = console.map_or_else(String::new, |console| console.listen.to_string());
    let user = console.map_or_else(String::new, |console| console.user.clone());
    let fixed = [
        ("[capture] attach", config.capture.attach.clone()),
        ("[capture] pins", config.capture.pins.display().to_string()),
        ("[capture] port", config.capture.port.to_string()),
        ("[capture] lsm", format!("{:?}", config.capture.lsm.wish)),
        ("[console] listen", listen),
        ("[console] user", user),
        (
            "[worker] runtime",
            config.worker.runtime.display().to_string(),
        ),
    ];
    let fixed = fixed.into_iter();
    fixed
        .map(|(what, value)| (what.to_owned(), value))
        .collect()
}

fn unchanged(
    now: &BTreeMap<String, String>,
    next: &BTreeMap<String, String>,
) -> Result<(), String> {
    match now
        .iter()
        .find(|(what, value)| next.get(*what) != Some(value))
    {
        Some((what, _)) => Err(format!("{what} cannot change in a reload: restart hoop")),
        None => Ok(()),
    }
}
