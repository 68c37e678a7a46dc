//! The service as it runs, as its callers see it.

mod roles;
mod tenants;

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use tidegate_chassis::{
    auth::{AuthConfig, Claims, InternalTokens, Role, TokenUse},
    clock::{Clock, Random},
    config::{self, Secret, Source},
    metrics::Metrics,
};
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use uuid::Uuid;

use super::ACCESS;
use crate::{CONFIG_DEFAULTS, Config, Service};

const SECRET: &str = "b0a1c2d3e4f5061728394a5b6c7d8e9f";
const INTERNAL: &str = "5e1c9f07b3a24d6e90c8f1a27d4b6e35";

/// The service on a free port, in a thread of its own; it ends with the test.
struct Running {
    channel: Channel,
    stop: CancellationToken,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn start() -> Running {
    start_with(|_| {}).await
}

async fn start_with(set: impl FnOnce(&mut Config)) -> Running {
    let env = [
        ("TIDEGATE_SERVER__LISTEN", "127.0.0.1:0"),
        ("TIDEGATE_SERVER__OPS_LISTEN", "127.0.0.1:0"),
        ("TIDEGATE_SERVER__WORKERS", "1"),
        ("TIDEGATE_SERVER__LAME_DUCK", "0s"),
        ("TIDEGATE_DATABASE__URL", "sqlite::memory:"),
        ("TIDEGATE_SECRETS__PEPPERS__1", SECRET),
        ("TIDEGATE_IDENTITY__SECRET", SECRET),
        ("TIDEGATE_IDENTITY__HS256_KID", "main"),
        ("TIDEGATE_AUTH__HS256_SECRETS__MAIN", SECRET),
        ("TIDEGATE_AUTH__INTERNAL_SECRET", INTERNAL),
    ];
    let env = env.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    let source = Source { defaults: CONFIG_DEFAULTS, env, ..Source::default() };
    let mut config: Config = config::load(&source).expect("settings");
    set(&mut config);
    let stop = CancellationToken::new();
    let (told, address) = tokio::sync::oneshot::channel();
    let (bound, stopped) = (config, stop.clone());
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let service = Service::bind(bound, Metrics::new(), Clock::system(), Random::system()).await;
            let service = service.expect("bound");
            told.send(service.addr()).expect("somebody waits");
            service.serve(stopped).await.expect("served");
        });
    });
    let url = format!("http://{}", address.await.expect("it is bound"));
    let channel = Channel::from_shared(url).expect("a URL").connect().await.expect("connected");
    Running { channel, stop }
}

/// Credentials of one of our own services.
fn internal() -> String {
    let config = AuthConfig { internal_secret: Secret::new(INTERNAL), ..AuthConfig::default() };
    let tokens = InternalTokens::new(&config, "tidegate-ratelimit", Clock::system());
    let header = tokens.expect("there is a secret").header();
    header.to_str().expect("ASCII").to_owned()
}

/// Credentials of this role, for this organization.
fn token(role: Role, org: Option<Uuid>) -> String {
    let now_s = Clock::system().now_us() / 1_000_000;
    let claims = Claims {
        iss: "tidegate".to_owned(),
        aud: "tidegate".to_owned(),
        sub: "0190a000-0000-7000-8000-000000000001".to_owned(),
        role,
        org,
        email: None,
        exp: now_s + 600,
        nbf: None,
        iat: now_s,
        jti: String::new(),
        token_use: if role == Role::Service { TokenUse::Service } else { TokenUse::Access },
    };
    let header = Header { kid: Some("main".to_owned()), ..Header::new(Algorithm::HS256) };
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    format!("Bearer {}", jsonwebtoken::encode(&header, &claims, &key).expect("a token"))
}
