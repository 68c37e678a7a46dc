//! All services together, each as its own process, as they are deployed.

use std::fs;

use anyhow::Context;
use http::Method;
use serde_json::json;
use tempfile::TempDir;

use crate::{
    postgres_server::PostgresServer,
    redis_server::RedisServer,
    rest::{Rest, text},
    services::{self, Service},
};

/// Address of the administrator that every stack has.
pub const ADMIN: &str = "admin@example.com";
/// The password of that account.
pub const ADMIN_PASSWORD: &str = "only for the tests of tidegate";
/// What the services prove themselves to each other by.
pub const INTERNAL_SECRET: &str = "0f1e2d3c4b5a69788796a5b4c3d2e1f00f1e2d3c4b5a69788796a5b4c3d2e1f0";

/// How a stack is set up; everything else is the services' default.
#[derive(Clone, Debug)]
pub struct StackSettings {
    /// Whether counters live in a Redis of its own; else in the memory of each replica.
    pub redis: bool,
    /// Whether keys live in a database of the shared PostgreSQL; else in an SQLite file.
    pub postgres: bool,
    /// Replicas of the rate-limit service.
    pub replicas: usize,
    /// Text of the policy file; the built-in policies if it is empty.
    pub policies: String,
    /// More settings of each rate-limit replica, as TOML.
    pub ratelimit: String,
    /// More settings of the keys service.
    pub keys: String,
    /// More settings of the gateway.
    pub gateway: String,
}

impl Default for StackSettings {
    fn default() -> Self {
        let [policies, ratelimit, keys, gateway] = [const { String::new() }; 4];
        Self { redis: false, postgres: false, replicas: 1, policies, ratelimit, keys, gateway }
    }
}

/// The processes.
#[derive(Debug)]
pub struct Stack {
    /// The gateway, before all of the rest.
    pub gateway: Service,
    /// The keys service.
    pub keys: Service,
    /// The replicas of the rate-limit service.
    pub ratelimit: Vec<Service>,
    /// Where counters live, if that is a Redis.
    pub redis: Option<RedisServer>,
    /// URL of the database of the keys service.
    pub database_url: String,
    _folder: TempDir,
}

impl Stack {
    /// Starts everything and waits until it serves.
    ///
    /// # Errors
    ///
    /// Something does not come up.
    pub async fn start(settings: &StackSettings) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let redis = match settings.redis {
            true => Some(RedisServer::start().await?),
            false => None,
        };
        let database_url = match settings.postgres {
            true => PostgresServer::shared().await?.database_of_plain_role().await?,
            false => format!("sqlite://{}", folder.path().join("keys.db").display()),
        };
        // Each is told where the others are before any of them runs.
        let mut keys = services::base()?;
        let keys_url = format!("http://{}", listen(&keys)?);
        let replicas =
            (0..settings.replicas.max(1)).map(|_| services::base()).collect::<anyhow::Result<Vec<_>>>()?;
        let addresses = replicas.iter().map(listen).collect::<anyhow::Result<Vec<_>>>()?;
        let urls: Vec<_> = addresses.iter().map(|address| format!("http://{address}")).collect();
        // Replicas that share a store are told by one of them; those with memories of their own each.
        let told = if settings.redis { &urls[..1] } else { &urls[..] };

        let auth = format!("[auth]\ninternal_secret = \"{INTERNAL_SECRET}\"\n");
        let pepper = "a0b1c2d3e4f5061728394a5b6c7d8e9fa0b1c2d3e4f5061728394a5b6c7d8e9f";
        let secret = "9f8e7d6c5b4a392817060f5e4d3c2b1a9f8e7d6c5b4a392817060f5e4d3c2b1a";
        let own = format!(
            "{auth}[database]\nurl = \"{database_url}\"\n\
             [secrets.peppers]\n1 = \"{pepper}\"\n\
             [identity]\nsecret = \"{secret}\"\nadmin_email = \"{ADMIN}\"\nadmin_password = \"{ADMIN_PASSWORD}\"\n\
             [identity.limits]\nurl = \"{}\"\n\
             [ratelimit]\nurls = {told:?}\n",
            urls[0]
        );
        services::merge(&mut keys, own.parse()?);
        services::merge(&mut keys, settings.keys.parse().context("the settings of keys are not TOML")?);
        let keys = Service::with(services::KEYS, &keys).await?;

        let mut ratelimit = Vec::new();
        for mut replica in replicas {
            let own = format!(
                "[auth]\ninternal_secret = \"{INTERNAL_SECRET}\"\nanonymous = \"nobody\"\nkeys_url = \"{keys_url}\"\n\
                 [keys]\nurl = \"{keys_url}\"\n"
            );
            services::merge(&mut replica, own.parse()?);
            if let Some(redis) = &redis {
                let store = format!("[store]\nbackend = \"redis\"\n[store.redis]\nurl = \"{}\"", redis.url());
                services::merge(&mut replica, store.parse()?);
            }
            if !settings.policies.is_empty() {
                let file = folder.path().join("policies.toml");
                fs::write(&file, &settings.policies)?;
                let policies = format!("[policies]\nfile = {:?}", file.display().to_string());
                services::merge(&mut replica, policies.parse()?);
            }
            let more = settings.ratelimit.parse().context("the settings of ratelimit are not TOML")?;
            services::merge(&mut replica, more);
            ratelimit.push(Service::with(services::RATELIMIT, &replica).await?);
        }

        let mut gateway = services::base()?;
        let own = format!(
            "{auth}[upstreams]\nratelimit = {urls:?}\nkeys = [\"{keys_url}\"]\n\
             [forward_auth]\ntrusted = [\"127.0.0.1\"]\n"
        );
        services::merge(&mut gateway, own.parse()?);
        let more = settings.gateway.parse().context("the settings of the gateway are not TOML")?;
        services::merge(&mut gateway, more);
        let gateway = Service::with(services::GATEWAY, &gateway).await?;
        Ok(Self { gateway, keys, ratelimit, redis, database_url, _folder: folder })
    }

    /// Somebody without credentials, at the gateway.
    #[must_use]
    pub fn rest(&self) -> Rest {
        Rest::anonymous(self.gateway.address())
    }

    /// The administrator.
    ///
    /// # Errors
    ///
    /// The login fails.
    pub async fn admin(&self) -> anyhow::Result<Rest> {
        self.log_in(ADMIN, ADMIN_PASSWORD).await
    }

    /// Whoever has this account.
    ///
    /// # Errors
    ///
    /// The login fails.
    pub async fn log_in(&self, email: &str, password: &str) -> anyhow::Result<Rest> {
        let body = json!({"email": email, "password": password});
        let tokens = self.rest().post("/v1/auth/login", &body, 200).await?;
        Ok(self.rest().with(&text(&tokens, "/access_token")?))
    }

    /// A backend for all organizations.
    ///
    /// # Errors
    ///
    /// The token is not given.
    pub async fn backend(&self) -> anyhow::Result<Rest> {
        let admin = self.admin().await?;
        let made = admin.post("/v1/auth/service-tokens", &json!({"name": "backend"}), 201).await?;
        Ok(self.rest().with(&text(&made, "/token")?))
    }

    /// A new account with an organization of its own: who it is, and the id of the organization.
    ///
    /// # Errors
    ///
    /// It is not made.
    pub async fn tenant(&self, email: &str, name: &str) -> anyhow::Result<(Rest, String)> {
        let body = json!({"email": email, "password": "a long and unlikely one", "organization_name": name});
        let made = self.rest().ask(Method::POST, "/v1/auth/signup", &body).await?;
        let made = made.json();
        Ok((self.rest().with(&text(&made, "/access_token")?), text(&made, "/organization/id")?))
    }

    /// Fails if any of the services ever panicked.
    ///
    /// # Errors
    ///
    /// One did.
    pub async fn assert_no_panic(&self) -> anyhow::Result<()> {
        for service in self.ratelimit.iter().chain([&self.keys, &self.gateway]) {
            service.assert_no_panic().await?;
        }
        Ok(())
    }
}

fn listen(settings: &toml::Table) -> anyhow::Result<String> {
    let address =
        settings.get("server").and_then(|server| server.get("listen")).and_then(toml::Value::as_str);
    Ok(address.context("[server] listen is set")?.to_owned())
}
