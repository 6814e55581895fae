//! The private key with which an agent's client proves itself (RFC 7523): read from PEM or JWK,
//! used to sign with RS256 or ES256.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::rsa::{KeyPairComponents, PublicKeyComponents};
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, RSA_PKCS1_SHA256, RsaKeyPair,
};
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject;
use zeroize::Zeroizing;

use crate::config::SigningAlgorithm;

/// What is in front of the SEC1 key in the PKCS#8 form of a P-256 key: version 0 and
/// `id-ecPublicKey` with `prime256v1`.
const P256_PKCS8: [u8; 24] = [
    0x02, 0x01, 0x00, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08,
    0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07,
];
const P256_BYTES: usize = 32;

/// A key that signs a client's assertions.
pub struct SigningKey {
    pair: Pair,
    kid: Option<String>,
}

enum Pair {
    Rsa(RsaKeyPair),
    Ec(EcdsaKeyPair),
}

/// A private key as RFC 7517 and RFC 7518 write it. Members that are not needed are passed over.
#[derive(serde::Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
    d: Option<Zeroizing<String>>,
    p: Option<Zeroizing<String>>,
    q: Option<Zeroizing<String>>,
    dp: Option<Zeroizing<String>>,
    dq: Option<Zeroizing<String>>,
    qi: Option<Zeroizing<String>>,
}

impl SigningKey {
    /// Reads PEM (PKCS#8, PKCS#1, SEC1; not encrypted) or one JWK. `wanted` must fit the key.
    /// What is wrong is said without a word of the key.
    pub fn read(text: &str, wanted: Option<SigningAlgorithm>) -> Result<Self, String> {
        let key = if text.trim_start().starts_with('{') {
            Self::from_jwk(text)?
        } else {
            Self::from_pem(text)?
        };
        match wanted {
            Some(wanted) if wanted != key.algorithm() => Err(format!(
                "the key signs with {:?}, not with {wanted:?}",
                key.algorithm()
            )),
            _ => Ok(key),
        }
    }

    /// The algorithm that goes with this kind of key.
    pub fn algorithm(&self) -> SigningAlgorithm {
        match self.pair {
            Pair::Rsa(_) => SigningAlgorithm::RS256,
            Pair::Ec(_) => SigningAlgorithm::ES256,
        }
    }

    /// The key's own name, which only a JWK has.
    pub fn kid(&self) -> Option<&str> {
        self.kid.as_deref()
    }

    /// The signature as JOSE has it: for ES256 the two numbers one after the other.
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, String> {
        let random = SystemRandom::new();
        let failed = |_| "the key could not sign".to_owned();
        match &self.pair {
            Pair::Rsa(pair) => {
                let mut signature = vec![0; pair.public().modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature)
                    .map_err(failed)?;
                Ok(signature)
            }
            Pair::Ec(pair) => {
                let signature = pair.sign(&random, message).map_err(failed)?;
                Ok(signature.as_ref().to_vec())
            }
        }
    }

    /// The public key: `Ok` of an RSA key, `Err` of one on P-256.
    #[cfg(test)]
    pub(super) fn pair_for_test(&self) -> Result<Vec<u8>, Vec<u8>> {
        use ring::signature::KeyPair;
        match &self.pair {
            Pair::Rsa(pair) => Ok(pair.public_key().as_ref().to_vec()),
            Pair::Ec(pair) => Err(pair.public_key().as_ref().to_vec()),
        }
    }

    fn from_pem(text: &str) -> Result<Self, String> {
        let der = PrivateKeyDer::from_pem_slice(text.as_bytes())
            .map_err(|_| "this is no private key in PEM (not encrypted) and no JWK".to_owned())?;
        let pair = match &der {
            PrivateKeyDer::Pkcs1(der) => rsa(RsaKeyPair::from_der(der.secret_pkcs1_der())),
            PrivateKeyDer::Sec1(der) => ec(&sec1_in_pkcs8(der.secret_sec1_der())?),
            PrivateKeyDer::Pkcs8(der) => {
                let bytes = der.secret_pkcs8_der();
                ec(bytes).or_else(|_| rsa(RsaKeyPair::from_pkcs8(bytes)))
            }
            _ => Err(unusable()),
        }?;
        Ok(Self { pair, kid: None })
    }

    fn from_jwk(text: &str) -> Result<Self, String> {
        // The parser's own words could repeat what stands in the file.
        let jwk: Jwk =
            serde_json::from_str(text).map_err(|_| "this is no JSON Web Key".to_owned())?;
        let pair = match jwk.kty.as_str() {
            "RSA" => jwk.rsa(),
            "EC" if jwk.crv.as_deref() == Some("P-256") => jwk.ec(),
            _ => Err(unusable()),
        }?;
        Ok(Self { pair, kid: jwk.kid })
    }
}

impl Jwk {
    fn rsa(&self) -> Result<Pair, String> {
        let components = KeyPairComponents {
            public_key: PublicKeyComponents {
                n: open("n", &self.n)?,
                e: open("e", &self.e)?,
            },
            d: hidden("d", &self.d)?,
            p: hidden("p", &self.p)?,
            q: hidden("q", &self.q)?,
            dP: hidden("dp", &self.dp)?,
            dQ: hidden("dq", &self.dq)?,
            qInv: hidden("qi", &self.qi)?,
        };
        rsa(RsaKeyPair::from_components(&components))
    }

    fn ec(&self) -> Result<Pair, String> {
        let (x, y) = (open("x", &self.x)?, open("y", &self.y)?);
        let d = hidden("d", &self.d)?;
        // RFC 7518 §6.2.1.2: each has the curve's full length.
        if [x.len(), y.len(), d.len()] != [P256_BYTES; 3] {
            return Err(unusable());
        }
        let point = [&[4][..], &x, &y].concat();
        EcdsaKeyPair::from_private_key_and_public_key(
            &ECDSA_P256_SHA256_FIXED_SIGNING,
            &d,
            &point,
            &SystemRandom::new(),
        )
        .map(Pair::Ec)
        .map_err(|_| unusable())
    }
}

fn open(name: &str, member: &Option<String>) -> Result<Vec<u8>, String> {
    decode(name, member.as_deref())
}

fn hidden(name: &str, member: &Option<Zeroizing<String>>) -> Result<Zeroizing<Vec<u8>>, String> {
    decode(name, member.as_ref().map(|text| text.as_str())).map(Zeroizing::new)
}

fn decode(name: &str, member: Option<&str>) -> Result<Vec<u8>, String> {
    member
        .and_then(|text| URL_SAFE_NO_PAD.decode(text).ok())
        .ok_or_else(|| format!("the JWK lacks `{name}`: hoop needs the whole private key"))
}

fn rsa(read: Result<RsaKeyPair, ring::error::KeyRejected>) -> Result<Pair, String> {
    read.map(Pair::Rsa).map_err(|_| unusable())
}

fn ec(pkcs8: &[u8]) -> Result<Pair, String> {
    let kind = &ECDSA_P256_SHA256_FIXED_SIGNING;
    EcdsaKeyPair::from_pkcs8(kind, pkcs8, &SystemRandom::new())
        .map(Pair::Ec)
        .map_err(|_| unusable())
}

fn unusable() -> String {
    "this key cannot be used: give an RSA key of 2048 bits or more, or one on P-256".to_owned()
}

/// `EC PRIVATE KEY`, as older tools write it, in the form that the library reads.
fn sec1_in_pkcs8(sec1: &[u8]) -> Result<Zeroizing<Vec<u8>>, String> {
    let mut body = Zeroizing::new(Vec::with_capacity(sec1.len() + 64));
    body.extend_from_slice(&P256_PKCS8);
    wrap(0x04, sec1, &mut body)?;
    let mut whole = Zeroizing::new(Vec::with_capacity(body.len() + 8));
    wrap(0x30, &body, &mut whole)?;
    Ok(whole)
}

/// One DER element, of the lengths that a key has.
fn wrap(tag: u8, content: &[u8], into: &mut Vec<u8>) -> Result<(), String> {
    let length = u16::try_from(content.len()).map_err(|_| unusable())?;
    let [high, low] = length.to_be_bytes();
    into.push(tag);
    match (high, low) {
        (0, 0..0x80) => into.push(low),
        (0, _) => into.extend([0x81, low]),
        _ => into.extend([0x82, high, low]),
    }
    into.extend_from_slice(content);
    Ok(())
}
