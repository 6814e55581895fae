//! Whether libpq and OpenSSL believe hoop's CA, and only as far as it is constrained.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use hoop::config::{Bundle, Config, Resource};
use hoop::terminate::authority::{Authority, Destinations};
use hoop::terminate::tls::{Offer, Offers};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

const HOST: &str = "db.prod.internal";

fn config(hosts: &str) -> Config {
    let text = format!(
        "[[resource]]\nname = \"orders\"\nprotocol = \"postgres\"\nhosts = [{hosts}]\n\
         login = {{ user = \"hoop\" }}\n[policy]\nuse = [\"read-only\"]\n"
    );
    let bundle = Bundle::from_text(Path::new("hoop.toml"), &text);
    Config::from_bundle(&bundle).expect("a configuration")
}

fn offers(state: &Path, config: &Config) -> Offers {
    let authority = Authority::open(state, &Destinations::of(config)).expect("a CA");
    Offers::new(Arc::new(authority))
}

fn offer(offers: &Offers, resource: &Resource) -> Offer {
    let address = "127.0.0.1".parse().expect("an address");
    offers
        .offer(resource, None, address)
        .expect("a certificate")
}

/// What psql says about a server that shows the offer's certificate and refuses every login.
async fn psql(offer: Offer, ca: &Path, host: &str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("its number").port();
    let served = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await?;
        stream.read_exact(&mut [0; 8]).await?;
        stream.write_all(b"S").await?;
        let mut stream = TlsAcceptor::from(offer.config).accept(stream).await?;
        let _ = stream.read(&mut [0; 1000]).await?;
        let fields = b"SFATAL\0VFATAL\0C28000\0Mthis is hoop\0\0";
        let length = (fields.len() as u32 + 4).to_be_bytes();
        stream
            .write_all(&[&b"E"[..], &length, fields].concat())
            .await?;
        stream.shutdown().await
    });
    let ca = ca.display();
    let wanted = format!(
        "host={host} hostaddr=127.0.0.1 port={port} user=x dbname=x connect_timeout=10 \
         sslmode=verify-full sslrootcert={ca}"
    );
    let asked = tokio::task::spawn_blocking(move || Command::new("psql").arg(wanted).output());
    let ran = asked.await.expect("psql is waited for");
    let ran = ran.expect("psql is missing: `cargo xtask setup` installs it");
    served.abort();
    String::from_utf8_lossy(&ran.stderr).into_owned()
}

fn openssl_verify(leaf: &[u8], ca: &Path) -> String {
    let folder = tempfile::tempdir().expect("a folder");
    let (der, pem) = (
        folder.path().join("leaf.der"),
        folder.path().join("leaf.pem"),
    );
    std::fs::write(&der, leaf).expect("written");
    let run = |arguments: &[&Path]| {
        let ran = Command::new("openssl")
            .args(arguments)
            .output()
            .expect("openssl runs");
        String::from_utf8_lossy(&[ran.stdout, ran.stderr].concat()).into_owned()
    };
    let path = Path::new;
    run(&[
        path("x509"),
        path("-inform"),
        path("DER"),
        path("-in"),
        &der,
        path("-out"),
        &pem,
    ]);
    run(&[path("verify"), path("-CAfile"), ca, &pem])
}

#[tokio::test]
async fn libpq_believes_what_the_configuration_names_and_nothing_else() {
    let state = tempfile::tempdir().expect("a folder");
    let ca = state.path().join("ca.pem");
    let config = config("\"db.prod.internal\", \"127.0.0.0/8\"");
    let offers = offers(state.path(), &config);
    let offer = offer(&offers, &config.resources[0]);
    for host in [HOST, "127.0.0.1"] {
        let said = psql(offer.clone(), &ca, host).await;
        assert!(said.contains("this is hoop"), "{host}: {said}");
    }
    let said = psql(offer.clone(), &ca, "bank.example").await;
    assert!(said.contains("does not match host name"), "{said}");
}

#[tokio::test]
async fn a_stolen_key_reaches_no_further_than_the_constraints() {
    let (state, thief) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir());
    let thief = thief.expect("a folder");
    let ca = state.path().join("ca.pem");
    for hosts in ["\"db.prod.internal\"", "\"10.0.0.0/8\""] {
        offers(state.path(), &config(hosts));
        std::fs::copy(state.path().join("ca.key"), thief.path().join("ca.key")).expect("copied");
        let wide = config("\"bank.example\", \"127.0.0.0/8\"");
        let forger = offers(thief.path(), &wide);
        let forged = offer(&forger, &wide.resources[0]);
        for host in ["bank.example", "127.0.0.1"] {
            let said = psql(forged.clone(), &ca, host).await;
            assert!(
                said.contains("certificate verify failed"),
                "{hosts} {host}: {said}"
            );
        }
        // libpq does not say what failed; OpenSSL does.
        let names = ["bank.example".to_owned()];
        let leaf = forger
            .authority()
            .mint("x", &names, None)
            .expect("a certificate");
        let said = openssl_verify(&leaf.chain[0], &ca);
        assert!(
            said.contains("permitted subtree violation"),
            "{hosts}: {said}"
        );
        let said = openssl_verify(&leaf.chain[0], &thief.path().join("ca.pem"));
        assert!(said.contains(": OK"), "{hosts}: {said}");
    }
}

#[tokio::test]
async fn a_ca_for_one_kind_of_destination_vouches_for_no_other_kind() {
    for (hosts, host) in [
        ("\"db.prod.internal\"", HOST),
        ("\"127.0.0.0/8\"", "127.0.0.1"),
    ] {
        let state = tempfile::tempdir().expect("a folder");
        let config = config(hosts);
        let offers = offers(state.path(), &config);
        let offer = offer(&offers, &config.resources[0]);
        let said = psql(offer, &state.path().join("ca.pem"), host).await;
        assert!(said.contains("this is hoop"), "{host}: {said}");
    }
}
