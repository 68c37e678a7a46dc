//! The settings of all services, one table each.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;

use anyhow::anyhow;
use garde::Validate;
use serde::{Deserialize, Serialize};
use tidegate_chassis::config::{Source, load, nested_defaults};

/// Everything that can be set.
#[derive(Clone, Debug, Deserialize, Serialize, Validate)]
#[serde(deny_unknown_fields)]
pub(super) struct UpConfig {
    /// The rate-limit service.
    #[garde(dive)]
    pub(super) ratelimit: tidegate_ratelimit::Config,
    /// The gateway. Its upstream is always the service of this process.
    #[garde(dive)]
    pub(super) gateway: tidegate_gateway::Config,
}

/// The table of a service, and the names of its environment variables.
type Table = (&'static str, &'static str, &'static [(&'static str, &'static str)]);

const TABLES: [Table; 2] = [
    ("ratelimit", tidegate_ratelimit::CONFIG_DEFAULTS, tidegate_ratelimit::ENV_ALIASES),
    ("gateway", tidegate_gateway::CONFIG_DEFAULTS, tidegate_gateway::ENV_ALIASES),
];

impl UpConfig {
    /// Defaults, file, environment.
    ///
    /// # Errors
    /// Every unknown key and bad value, with where it came from.
    pub(super) fn load(file: Option<&Path>) -> anyhow::Result<Self> {
        Self::load_with(file, Source::process_env())
    }

    fn load_with(file: Option<&Path>, env: Vec<(String, String)>) -> anyhow::Result<Self> {
        let defaults = nested_defaults(&TABLES.map(|(name, defaults, _)| (name, defaults)))?;
        let aliases: Vec<(&str, String)> = TABLES
            .iter()
            .flat_map(|(table, _, aliases)| {
                aliases.iter().map(move |(name, key)| (*name, format!("{table}.{key}")))
            })
            .collect();
        let aliases: Vec<(&str, &str)> = aliases.iter().map(|(name, key)| (*name, key.as_str())).collect();
        Ok(load(&Source { defaults: &defaults, file, env, aliases: &aliases, ignored: &[] })?)
    }

    /// Free ports on loopback.
    pub(super) fn make_ephemeral(&mut self) {
        let free = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        for listen in [
            &mut self.ratelimit.server.listen,
            &mut self.ratelimit.server.ops_listen,
            &mut self.gateway.server.listen,
            &mut self.gateway.server.ops_listen,
        ] {
            *listen = free;
        }
    }

    /// Which setting gives which address, for when one is taken.
    pub(super) fn addresses(&self) -> Addresses {
        Addresses([
            ("ratelimit", "server.listen", self.ratelimit.server.listen),
            ("ratelimit", "server.ops_listen", self.ratelimit.server.ops_listen),
            ("gateway", "server.listen", self.gateway.server.listen),
            ("gateway", "server.ops_listen", self.gateway.server.ops_listen),
        ])
    }
}

/// Points the gateway at the rate-limit service of this process.
pub(super) fn with_upstream(
    mut gateway: tidegate_gateway::Config,
    url: String,
) -> anyhow::Result<tidegate_gateway::Config> {
    gateway.upstreams.ratelimit = vec![url.try_into().map_err(|error: String| anyhow!(error))?];
    Ok(gateway)
}

/// The addresses that are listened on.
pub(super) struct Addresses([(&'static str, &'static str, SocketAddr); 4]);

impl Addresses {
    /// Says in one line which setting has to change if `error` is about an address.
    pub(super) fn explain(&self, service: &str, error: anyhow::Error) -> anyhow::Error {
        let is = |kind| {
            error.chain().any(|cause| cause.downcast_ref::<std::io::Error>().is_some_and(|io| io.kind() == kind))
        };
        let why = if is(ErrorKind::AddrInUse) {
            "is already in use"
        } else if is(ErrorKind::AddrNotAvailable) {
            "is not an address of this machine"
        } else if is(ErrorKind::PermissionDenied) {
            "may not be listened on by this user"
        } else {
            return error.context(format!("{service} does not start"));
        };
        let of_service = self.0.iter().filter(|(name, ..)| *name == service);
        let Some((_, key, addr)) = of_service.clone().find(|(_, _, addr)| !free(*addr)).or(of_service.last()) else {
            return error;
        };
        let variable = format!("TIDEGATE_{service}__{}", key.replace('.', "__")).to_uppercase();
        anyhow!("{addr} {why}: choose another with {service}.{key} ({variable}=127.0.0.1:PORT), or start with --ephemeral")
    }
}

/// Whether the address could be listened on now.
fn free(addr: SocketAddr) -> bool {
    std::net::TcpListener::bind(addr).is_ok()
}

/// Where a caller on this machine finds what listens on `addr`.
pub(super) fn reachable(mut addr: SocketAddr) -> SocketAddr {
    if addr.ip().is_unspecified() {
        addr.set_ip(IpAddr::V4(Ipv4Addr::LOCALHOST));
    }
    addr
}

#[cfg(test)]
mod tests;
