//! The settings of all services, one table each.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::Path,
};

use anyhow::{Context, anyhow, bail};
use garde::Validate;
use serde::{Deserialize, Serialize};
use tidegate_chassis::{
    config::{ConfigError, HumanDuration, Secret, Source, load, nested_defaults},
    server::ServerConfig,
};
use tidegate_gateway::Cidr;

use super::demo::{OPERATOR, Secrets};

/// Variables of binaries that this process has no part of.
const FOREIGN_ENV: &[&str] = &["TIDEGATE_AUDIT_LISTEN", "TIDEGATE_HEALTH_LISTEN"];

/// Everything that can be set.
#[derive(Clone, Debug, Deserialize, Serialize, Validate)]
#[serde(deny_unknown_fields)]
pub(super) struct UpConfig {
    /// The rate-limit service.
    #[garde(dive)]
    pub(super) ratelimit: tidegate_ratelimit::Config,
    /// The keys service.
    #[garde(dive)]
    pub(super) keys: tidegate_keys::Config,
    /// The gateway. What it calls are always the services of this process.
    #[garde(dive)]
    pub(super) gateway: tidegate_gateway::Config,
}

/// A service of this process: its table, what it starts from, and the environment variables with names
/// of their own.
struct Table {
    name: &'static str,
    defaults: &'static str,
    aliases: &'static [(&'static str, &'static str)],
}

const TABLES: [Table; 3] = [
    Table {
        name: "ratelimit",
        defaults: tidegate_ratelimit::CONFIG_DEFAULTS,
        aliases: tidegate_ratelimit::ENV_ALIASES,
    },
    Table { name: "keys", defaults: tidegate_keys::CONFIG_DEFAULTS, aliases: tidegate_keys::ENV_ALIASES },
    Table {
        name: "gateway",
        defaults: tidegate_gateway::CONFIG_DEFAULTS,
        aliases: tidegate_gateway::ENV_ALIASES,
    },
];

impl UpConfig {
    /// Defaults, file, environment.
    ///
    /// # Errors
    /// Every unknown key and bad value, with where it came from.
    pub(super) fn load(file: Option<&Path>, env: Vec<(String, String)>) -> Result<Self, ConfigError> {
        let defaults = nested_defaults(&TABLES.map(|table| (table.name, table.defaults)))?;
        // LOG_LEVEL and the like stand for a key of each service.
        let aliases: Vec<(&str, String)> = TABLES
            .iter()
            .flat_map(|table| {
                table.aliases.iter().map(|(name, key)| (*name, format!("{}.{key}", table.name)))
            })
            .collect();
        let aliases: Vec<(&str, &str)> = aliases.iter().map(|(name, key)| (*name, key.as_str())).collect();
        let mut config: Self =
            load(&Source { defaults: &defaults, file, env, aliases: &aliases, ignored: FOREIGN_ENV })?;
        // Where the binary keeps its database is not where this process does.
        if config.keys.database.url == default_keys_database()? {
            config.keys.database.url = Secret::default();
        }
        // Where the gateway stands alone nobody is listed. Here it is tried out, by proxies on this machine.
        let trusted = &mut config.gateway.forward_auth.trusted;
        if trusted.is_empty() {
            trusted.extend(Cidr::LOOPBACK);
        }
        Ok(config)
    }

    /// Free ports on loopback. The services are told of each other before they are bound, so the ports are chosen here.
    ///
    /// # Errors
    /// The system has none.
    pub(super) fn take_free_ports(&mut self) -> anyhow::Result<()> {
        // All are held until the last is chosen, so that they differ.
        let mut held = Vec::new();
        for listen in self.listens().map(|(_, listen)| listen) {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("a free port")?;
            *listen = listener.local_addr()?;
            held.push(listener);
        }
        Ok(())
    }

    /// Every address that is listened on, with the name of its setting.
    fn listens(&mut self) -> [(&'static str, &mut SocketAddr); 6] {
        [
            ("ratelimit.server.listen", &mut self.ratelimit.server.listen),
            ("ratelimit.server.ops_listen", &mut self.ratelimit.server.ops_listen),
            ("keys.server.listen", &mut self.keys.server.listen),
            ("keys.server.ops_listen", &mut self.keys.server.ops_listen),
            ("gateway.server.listen", &mut self.gateway.server.listen),
            ("gateway.server.ops_listen", &mut self.gateway.server.ops_listen),
        ]
    }

    /// Where no database is set: one in a file of this folder, or in memory if there is none.
    pub(super) fn keep_in(&mut self, folder: Option<&Path>) {
        for url in [&mut self.ratelimit.database.url, &mut self.keys.database.url] {
            if !url.is_empty() {
                continue;
            }
            *url = Secret::new(match folder {
                None => "sqlite::memory:".to_owned(),
                Some(folder) => {
                    let path = folder.join("tidegate.db").display().to_string();
                    format!("sqlite://{}", path.replace('%', "%25").replace('?', "%3F").replace('#', "%23"))
                }
            });
        }
    }

    /// Gives the services the secrets of this installation, where none are configured.
    pub(super) fn take_secrets(&mut self, secrets: &Secrets) {
        let keys = &mut self.keys;
        let current = keys.secrets.pepper.to_string();
        if keys.secrets.peppers.get(&current).is_none_or(Secret::is_empty) {
            keys.secrets.peppers.insert(current, Secret::new(secrets.pepper.as_str()));
        }
        for (secret, made) in [
            (&mut keys.identity.secret, &secrets.sealing),
            (&mut keys.auth.internal_secret, &secrets.internal),
            (&mut self.ratelimit.auth.internal_secret, &secrets.internal),
            (&mut self.gateway.auth.internal_secret, &secrets.internal),
        ] {
            if secret.is_empty() {
                *secret = Secret::new(made.as_str());
            }
        }
        if let Some(password) = &secrets.operator_password
            && keys.identity.admin_email.is_empty()
        {
            keys.identity.admin_email = OPERATOR.to_owned();
            keys.identity.admin_password = Secret::new(password.as_str());
        }
    }

    /// Whether the first administrator is the one of the first start, not one that was configured.
    pub(super) fn has_own_operator(&self) -> bool {
        self.keys.identity.admin_email == OPERATOR
    }

    /// Tells each service of this process where the others are.
    ///
    /// # Errors
    /// None that is known: the address of a listener makes a URL.
    pub(super) fn introduce(&mut self) -> anyhow::Result<()> {
        let url = |server: &ServerConfig| {
            let scheme = if server.tls.is_some() { "https" } else { "http" };
            format!("{scheme}://{}", reachable(server.listen))
        };
        let (ratelimit, keys) = (url(&self.ratelimit.server), url(&self.keys.server));
        self.ratelimit.auth.keys_url.clone_from(&keys);
        self.ratelimit.keys.url.clone_from(&keys);
        self.keys.ratelimit.urls = vec![ratelimit.clone()];
        self.keys.identity.limits.url.clone_from(&ratelimit);
        let upstream = |url: String| url.try_into().map_err(|error: String| anyhow!(error));
        self.gateway.upstreams.ratelimit = vec![upstream(ratelimit)?];
        self.gateway.upstreams.keys = vec![upstream(keys)?];
        Ok(())
    }

    /// Keeps the services behind in their lame duck until the gateway, which leaves at the same time, has
    /// had its last answers.
    pub(super) fn outlast_the_gateway(&mut self) {
        // Calls that take longer were begun before, and are waited for by the services themselves.
        let gateway = self.gateway.server.lame_duck.get() + self.gateway.upstreams.deadline.get();
        for own in [&mut self.ratelimit.server.lame_duck, &mut self.keys.server.lame_duck] {
            *own = HumanDuration::from(own.get().max(gateway));
        }
    }

    /// Finds out whether all addresses can be listened on, before anything is opened.
    ///
    /// # Errors
    /// Names every setting whose address cannot be had, and why.
    pub(super) fn refuse_taken_ports(&mut self) -> anyhow::Result<()> {
        let mut faults = String::new();
        // All are held until the last is tried, so that two settings of one address are found too.
        let mut held = Vec::new();
        for (key, addr) in self.listens() {
            match TcpListener::bind(*addr) {
                Ok(listener) => held.push(listener),
                Err(error) => {
                    let variable = format!("TIDEGATE_{}", key.replace('.', "__").to_uppercase());
                    faults.push_str(&format!("\n  {key} = {addr}: {error} (set it, or {variable})"));
                }
            }
        }
        if faults.is_empty() {
            return Ok(());
        }
        bail!("addresses that cannot be listened on:{faults}\n`tidegate up --ephemeral` takes free ports")
    }
}

/// Where the keys service keeps its database if it runs as its own process and nothing else is said.
fn default_keys_database() -> Result<Secret, ConfigError> {
    let source = Source { defaults: tidegate_keys::CONFIG_DEFAULTS, ..Source::default() };
    load(&source).map(|config: tidegate_keys::Config| config.database.url)
}

/// The rate-limit service's settings on free ports, for tests.
#[cfg(test)]
pub(crate) fn ratelimit_defaults() -> tidegate_ratelimit::Config {
    let mut config = UpConfig::load(None, Vec::new()).expect("the defaults are right");
    config.take_free_ports().expect("there are free ports");
    config.ratelimit
}

/// Where a caller on this machine finds what listens on `addr`.
pub(super) fn reachable(mut addr: SocketAddr) -> SocketAddr {
    if addr.ip().is_unspecified() {
        addr.set_ip(Ipv4Addr::LOCALHOST.into());
    }
    addr
}

#[cfg(test)]
mod tests;
