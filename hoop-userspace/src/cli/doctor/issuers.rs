//! Whether each issuer is reached and gives its keys, over TLS that is verified.

use super::finding::{Check, Finding};
use super::host::Host;
use crate::identify::Verifier;

const ISSUER: Check = Check::new(
    "issuer",
    "without the issuer's keys no token can be verified, and what cannot be verified is refused",
);

pub async fn check(host: &Host) -> Vec<Finding> {
    let Some(config) = &host.config else {
        return Vec::new();
    };
    let verifier = match Verifier::new(config) {
        Ok(verifier) => verifier,
        // Secrets that were not read make no client that could ask.
        Err(error) if !host.secrets => {
            return vec![ISSUER.unknown(error.to_string(), "sudo hoop doctor")];
        }
        Err(error) => return vec![ISSUER.fail(error.to_string(), "hoop check")],
    };
    let mut found = Vec::new();
    for issuer in config.issuers.values() {
        let about = format!("issuer {}", issuer.name);
        let keys = verifier.keys_of(&issuer.name).await;
        let (url, name) = (&issuer.url, &issuer.name);
        found.push(match keys {
            Some(Ok(0)) | None => ISSUER
                .fail(format!("{url} has no key"), "look at the issuer's own jwks_uri")
                .about(about),
            Some(Ok(count)) => ISSUER
                .ok(format!("{url} answers with {count} keys"))
                .about(about),
            Some(Err(why)) => ISSUER
                .fail(
                    format!("{url}: {why}"),
                    format!("curl -v {url}/.well-known/openid-configuration; a private CA belongs in [issuer.{name}] ca"),
                )
                .about(about),
        });
    }
    found
}
