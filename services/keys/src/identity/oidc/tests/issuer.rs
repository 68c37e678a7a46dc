//! An issuer of OpenID Connect: keys that are made here, and a web server that hands out their public halves.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicUsize, Ordering},
};

use aws_lc_rs::{
    encoding::AsDer,
    rand::SystemRandom,
    rsa,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair},
};
use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use bytes::Bytes;
use http_body_util::Full;
use hyper::{Response, StatusCode, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;

use super::NOW_US;
use crate::identity::{OidcAlgorithm, OidcIssuerConfig};

pub(crate) const AUDIENCE: &str = "tidegate-client";

/// A key of an issuer.
#[derive(Clone)]
pub(crate) struct Pair {
    kid: String,
    algorithm: Algorithm,
    private: EncodingKey,
    jwk: Value,
    public: Vec<u8>,
}

impl Pair {
    pub(crate) fn rsa(kid: &str) -> Self {
        let pair = rsa::KeyPair::generate(rsa::KeySize::Rsa2048).expect("a key");
        let der = AsDer::<aws_lc_rs::encoding::Pkcs8V1Der<'_>>::as_der(&pair).expect("PKCS #8");
        let private = EncodingKey::from_rsa_pem(pem("PRIVATE KEY", der.as_ref()).as_bytes()).expect("PEM");
        // PKCS #1 of 2,048 bits: a sequence of two integers, the larger with a zero before it.
        let public = pair.public_key().as_ref().to_vec();
        let (n, e) = (&public[9..265], &public[267..]);
        let jwk = json!({ "kty": "RSA", "n": text(n), "e": text(e) });
        Self::new(kid, Algorithm::RS256, private, jwk, public.clone())
    }

    pub(crate) fn ec(kid: &str) -> Self {
        let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let der = EcdsaKeyPair::generate_pkcs8(algorithm, &SystemRandom::new()).expect("a key");
        let pair = EcdsaKeyPair::from_pkcs8(algorithm, der.as_ref()).expect("a key");
        let public = pair.public_key().as_ref().to_vec();
        let jwk = json!({ "kty": "EC", "crv": "P-256", "x": text(&public[1..33]), "y": text(&public[33..]) });
        Self::new(kid, Algorithm::ES256, EncodingKey::from_ec_der(der.as_ref()), jwk, public)
    }

    pub(crate) fn ed(kid: &str) -> Self {
        let pair = Ed25519KeyPair::generate().expect("a key");
        let der = pair.to_pkcs8v1().expect("PKCS #8");
        let public = pair.public_key().as_ref().to_vec();
        let jwk = json!({ "kty": "OKP", "crv": "Ed25519", "x": text(&public) });
        Self::new(kid, Algorithm::EdDSA, EncodingKey::from_ed_der(der.as_ref()), jwk, public)
    }

    fn new(kid: &str, algorithm: Algorithm, private: EncodingKey, mut jwk: Value, public: Vec<u8>) -> Self {
        jwk["kid"] = json!(kid);
        jwk["use"] = json!("sig");
        Self { kid: kid.to_owned(), algorithm, private, jwk, public }
    }

    /// What an attacker may take for a secret.
    pub(crate) fn public_forms(&self) -> [Vec<u8>; 3] {
        let n = self.jwk["n"].as_str().unwrap_or_default().as_bytes().to_vec();
        [self.public.clone(), pem("RSA PUBLIC KEY", &self.public).into_bytes(), n]
    }
}

/// The issuer.
pub(crate) struct Issuer {
    url: String,
    pairs: Mutex<Vec<Pair>>,
    state: Arc<State>,
    _server: AbortOnDropHandle<()>,
}

struct State {
    body: Mutex<Option<String>>,
    asked: AtomicUsize,
}

impl Issuer {
    pub(crate) async fn start(pairs: Vec<Pair>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let state = Arc::new(State { body: Mutex::default(), asked: AtomicUsize::new(0) });
        let serving = Arc::clone(&state);
        let server = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let state = Arc::clone(&serving);
                let answer = service_fn(move |_| {
                    let answer = state.answer();
                    async move { Ok::<_, std::convert::Infallible>(answer) }
                });
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), answer));
            }
        });
        let issuer = Self { url, pairs: Mutex::default(), state, _server: AbortOnDropHandle::new(server) };
        issuer.replace(pairs);
        issuer
    }

    pub(crate) fn config(&self, algorithms: &[OidcAlgorithm]) -> OidcIssuerConfig {
        OidcIssuerConfig {
            issuer: self.url.clone(),
            audience: AUDIENCE.to_owned(),
            jwks_url: format!("{}/jwks", self.url),
            jwks_file: String::new(),
            algorithms: algorithms.to_vec(),
            organization: None,
            role: tidegate_chassis::auth::Role::User,
        }
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    pub(crate) fn pairs(&self) -> Vec<Pair> {
        self.pairs.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn replace(&self, pairs: Vec<Pair>) {
        *self.pairs.lock().unwrap_or_else(PoisonError::into_inner) = pairs;
        self.answer(self.jwks());
    }

    /// Besides its own keys one of a kind that nobody knows.
    pub(crate) fn jwks(&self) -> String {
        let strange = json!({ "kty": "LATTICE", "kid": "strange", "m": "AA" });
        let keys: Vec<_> =
            [strange].into_iter().chain(self.pairs().into_iter().map(|pair| pair.jwk)).collect();
        json!({ "keys": keys }).to_string()
    }

    pub(crate) fn answer(&self, body: String) {
        *self.state.body.lock().unwrap_or_else(PoisonError::into_inner) = Some(body);
    }

    pub(crate) fn fail(&self) {
        *self.state.body.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// How often its keys were asked for.
    pub(crate) fn asked(&self) -> usize {
        self.state.asked.load(Ordering::Acquire)
    }

    /// A good token, but for `claims`; null takes one away.
    pub(crate) fn token(&self, pair: &Pair, claims: Value) -> String {
        self.token_as(pair, &pair.kid, claims)
    }

    pub(crate) fn token_as(&self, pair: &Pair, kid: &str, claims: Value) -> String {
        let header = Header { kid: Some(kid.to_owned()), ..Header::new(pair.algorithm) };
        jsonwebtoken::encode(&header, &self.claims(claims), &pair.private).expect("signed")
    }

    pub(crate) fn token_by(&self, pair: &Pair, algorithm: Algorithm, claims: Value) -> String {
        self.token(&Pair { algorithm, ..pair.clone() }, claims)
    }

    pub(crate) fn signed_by_secret(
        &self,
        kid: &str,
        secret: &[u8],
        algorithm: Algorithm,
        claims: Value,
    ) -> String {
        let header = Header { kid: Some(kid.to_owned()), ..Header::new(algorithm) };
        let key = EncodingKey::from_secret(secret);
        jsonwebtoken::encode(&header, &self.claims(claims), &key).expect("signed")
    }

    pub(crate) fn unsigned(&self, kid: &str, claims: Value) -> String {
        let header = json!({ "alg": "none", "typ": "JWT", "kid": kid }).to_string();
        format!("{}.{}.", text(header.as_bytes()), text(self.claims(claims).to_string().as_bytes()))
    }

    fn claims(&self, claims: Value) -> Value {
        let now = NOW_US / 1_000_000;
        let mut all = json!({
            "iss": self.url, "aud": AUDIENCE, "sub": "subject-1", "iat": now, "exp": now + 300,
            "email": "Ada@example.com", "email_verified": true,
        });
        let Value::Object(claims) = claims else { panic!("claims are an object") };
        for (name, value) in claims {
            all[name] = value;
        }
        all.as_object_mut().expect("an object").retain(|_, value| !value.is_null());
        all
    }
}

impl State {
    fn answer(&self) -> Response<Full<Bytes>> {
        self.asked.fetch_add(1, Ordering::AcqRel);
        let body = self.body.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let status = if body.is_some() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        let mut response = Response::new(Full::from(body.unwrap_or_default()));
        *response.status_mut() = status;
        response
    }
}

fn text(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn pem(label: &str, der: &[u8]) -> String {
    let encoded = STANDARD.encode(der);
    let lines: Vec<_> = encoded.as_bytes().chunks(64).map(|line| String::from_utf8_lossy(line)).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}
