//! The settings of all services, one table each.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::Path,
};

use anyhow::{anyhow, bail};
use garde::Validate;
use serde::{Deserialize, Serialize};
use tidegate_chassis::config::{ConfigError, HumanDuration, Secret, Source, load, nested_defaults};

/// Everything that can be set.
#[derive(Clone, Debug, Deserialize, Serialize, Validate)]
#[serde(deny_unknown_fields)]
pub(super) struct UpConfig {
    /// The rate-limit service.
    #[garde(dive)]
    pub(super) ratelimit: tidegate_ratelimit::Config,
    /// The gateway. What it calls is always the service of this process.
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

const TABLES: [Table; 2] = [
    Table {
        name: "ratelimit",
        defaults: tidegate_ratelimit::CONFIG_DEFAULTS,
        aliases: tidegate_ratelimit::ENV_ALIASES,
    },
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
        let ignored = tidegate_ratelimit::FOREIGN_ENV;
        load(&Source { defaults: &defaults, file, env, aliases: &aliases, ignored })
    }

    /// Free ports on loopback.
    pub(super) fn take_free_ports(&mut self) {
        for listen in [
            &mut self.ratelimit.server.listen,
            &mut self.ratelimit.server.ops_listen,
            &mut self.gateway.server.listen,
            &mut self.gateway.server.ops_listen,
        ] {
            *listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        }
    }

    /// Where no database is set: one in a file of this folder, or in memory if there is none.
    pub(super) fn keep_in(&mut self, folder: Option<&Path>) {
        let database = &mut self.ratelimit.database;
        if database.url.is_empty() {
            database.url = Secret::new(match folder {
                None => "sqlite::memory:".to_owned(),
                Some(folder) => {
                    let path = folder.join("tidegate.db").display().to_string();
                    format!("sqlite://{}", path.replace('%', "%25").replace('?', "%3F").replace('#', "%23"))
                }
            });
        }
    }

    /// Keeps the rate-limit service in its lame duck until the gateway, which leaves at the same time, has
    /// had its last answers.
    pub(super) fn outlast_the_gateway(&mut self) {
        let gateway = self.gateway.server.lame_duck.get() + self.gateway.upstreams.deadline.get();
        let own = &mut self.ratelimit.server.lame_duck;
        *own = HumanDuration::from(own.get().max(gateway));
    }

    /// Finds out whether all addresses can be listened on, before anything is opened.
    ///
    /// # Errors
    /// Names every setting whose address cannot be had, and why.
    pub(super) fn refuse_taken_ports(&self) -> anyhow::Result<()> {
        let listens = [
            ("ratelimit.server.listen", self.ratelimit.server.listen),
            ("ratelimit.server.ops_listen", self.ratelimit.server.ops_listen),
            ("gateway.server.listen", self.gateway.server.listen),
            ("gateway.server.ops_listen", self.gateway.server.ops_listen),
        ];
        let mut faults = String::new();
        // All are held until the last is tried, so that two settings of one address are found too.
        let mut held = Vec::new();
        for (key, addr) in listens {
            match TcpListener::bind(addr) {
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

    /// The gateway's settings, with the rate-limit service at `addr` behind it.
    ///
    /// # Errors
    /// None that is known: the address of a listener makes a URL.
    pub(super) fn gateway_before(&self, addr: SocketAddr) -> anyhow::Result<tidegate_gateway::Config> {
        let scheme = if self.ratelimit.server.tls.is_some() { "https" } else { "http" };
        let url = format!("{scheme}://{}", reachable(addr));
        let mut gateway = self.gateway.clone();
        gateway.upstreams.ratelimit = vec![url.try_into().map_err(|error: String| anyhow!(error))?];
        Ok(gateway)
    }
}

/// The rate-limit service's settings on free ports, for tests.
#[cfg(test)]
pub(crate) fn ratelimit_defaults() -> tidegate_ratelimit::Config {
    let mut config = UpConfig::load(None, Vec::new()).expect("the defaults are right");
    config.take_free_ports();
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
