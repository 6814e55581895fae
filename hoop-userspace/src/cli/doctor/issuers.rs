//! Whether each issuer is reached and gives its keys, over TLS that is verified.

use super::finding::{Check, Finding, advise, as_root, quoted, run};
use super::host::Host;
use crate::identify::Verifier;

const ISSUER: Check = Check::new(
    "issuer",
    "without the issuer's keys no token can be verified, and what cannot be verified is refused",
);

const INTROSPECTION: Check = Check::new(
    "issuer.introspection",
    "without the issuer's word on a token a revocation goes unnoticed until the token expires, or every new session is refused",
);
const ASKED: &str =
    "compare the client's key or secret with the issuer's, and let that client introspect there";

pub async fn check(host: &Host) -> Vec<Finding> {
    let Some(config) = &host.config else {
        return Vec::new();
    };
    let verifier = match Verifier::new(config) {
        Ok(verifier) => verifier,
        // Secrets that were not read make no client that could ask.
        Err(error) if !host.secrets => {
            return vec![ISSUER.unknown(error.to_string(), as_root())];
        }
        Err(error) => return vec![ISSUER.fail(error.to_string(), run("hoop check"))],
    };
    let mut found = Vec::new();
    for issuer in config.issuers.values() {
        let about = format!("issuer {}", issuer.name);
        let keys = verifier.keys_of(&issuer.name).await;
        let (url, name) = (&issuer.url, &issuer.name);
        found.push(match keys {
            Some(Ok(0)) | None => ISSUER
                .fail(
                    format!("{url} has no key"),
                    advise("look at the issuer's own jwks_uri"),
                )
                .about(&about),
            Some(Ok(count)) => ISSUER
                .ok(format!("{url} answers with {count} keys"))
                .about(&about),
            Some(Err(why)) => {
                let document = quoted(&format!("{url}/.well-known/openid-configuration"));
                let ca = format!("a private CA belongs in [issuer.{name}] ca");
                ISSUER
                    .fail(
                        format!("{url}: {why}"),
                        run(format!("curl -v {document}")).and(ca),
                    )
                    .about(&about)
            }
        });
        for (client, answer) in verifier.introspected(name).await {
            let about = format!("{about}, client {client}");
            found.push(match answer {
                Ok(()) => INTROSPECTION.ok("it answers about tokens").about(about),
                Err(why) => INTROSPECTION.fail(why, advise(ASKED)).about(about),
            });
        }
    }
    found
}
