//! What the URL of Redis may be, and what it says.

use redis::{
    Client, ConnectionAddr, ConnectionInfo, IntoConnectionInfo, ProtocolVersion, RedisResult,
    TlsCertificates, io::tcp::TcpSettings,
};

/// Where the counters are.
#[derive(Clone, Debug)]
pub(super) enum Topology {
    /// One server.
    Single(ConnectionInfo),
    /// One master among replicas; which one, sentinels know.
    Sentinel {
        /// The sentinels.
        sentinels: Vec<ConnectionInfo>,
        /// The name by which they know the master.
        master: String,
        /// How to connect to the master; only its address is not known.
        node: ConnectionInfo,
    },
    /// Many masters, each with a part of the keys.
    Cluster {
        /// Nodes that are asked first; at least one.
        seeds: Vec<ConnectionInfo>,
    },
}

/// What is wrong with a URL, without the URL: it may hold a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct UrlError(&'static str);

const FORMS: UrlError = UrlError(
    "must be redis://[user:password@]host[:port][/database], redis+sentinel://[user:password@]host[:port],…/master[/database] \
     or redis-cluster://[user:password@]host[:port],…; with TLS rediss://, rediss+sentinel:// or rediss-cluster://",
);

/// Where sentinels listen if the URL does not say.
const SENTINEL_PORT: &str = "26379";

impl Topology {
    /// Reads a URL.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub(super) fn parse(url: &str) -> Result<Self, UrlError> {
        let (scheme, rest) = url.split_once("://").ok_or(FORMS)?;
        match scheme {
            "redis" | "rediss" => Ok(Self::Single(info(url)?)),
            "redis+sentinel" => sentinel("redis", rest),
            "rediss+sentinel" => sentinel("rediss", rest),
            "redis-cluster" => cluster("redis", rest),
            "rediss-cluster" => cluster("rediss", rest),
            _ => Err(FORMS),
        }
    }

    /// Whether connections are made with TLS.
    pub(super) fn is_tls(&self) -> bool {
        let info = match self {
            Self::Single(info) | Self::Sentinel { node: info, .. } => Some(info),
            Self::Cluster { seeds } => seeds.first(),
        };
        info.is_some_and(|info| matches!(info.addr(), ConnectionAddr::TcpTls { .. }))
    }

    /// The same, with these certificates.
    ///
    /// # Errors
    ///
    /// If they are none, or there is no TLS to use them for.
    pub(super) fn with_certificates(mut self, certificates: &TlsCertificates) -> RedisResult<Self> {
        let infos: Vec<&mut ConnectionInfo> = match &mut self {
            Self::Single(info) => vec![info],
            Self::Sentinel { sentinels, node, .. } => sentinels.iter_mut().chain([node]).collect(),
            Self::Cluster { seeds } => seeds.iter_mut().collect(),
        };
        for info in infos {
            let client = Client::build_with_tls(info.clone(), certificates.clone())?;
            *info = client.get_connection_info().clone();
        }
        Ok(self)
    }
}

/// The same as `info`, at another address.
pub(super) fn at(info: &ConnectionInfo, host: &str, port: u16) -> ConnectionInfo {
    let host = host.to_owned();
    let address = match info.addr() {
        ConnectionAddr::TcpTls { insecure, tls_params, .. } => {
            ConnectionAddr::TcpTls { host, port, insecure: *insecure, tls_params: tls_params.clone() }
        }
        _ => ConnectionAddr::Tcp(host, port),
    };
    info.clone().set_addr(address)
}

/// Host and port of `host:port`, where the host may be an IPv6 address.
pub(super) fn host_and_port(address: &str) -> Option<(&str, u16)> {
    let (host, port) = address.rsplit_once(':')?;
    Some((host.trim_start_matches('[').trim_end_matches(']'), port.parse().ok()?))
}

fn info(url: &str) -> Result<ConnectionInfo, UrlError> {
    let info = url.into_connection_info().map_err(|_| FORMS)?;
    if matches!(info.addr(), ConnectionAddr::TcpTls { insecure: true, .. }) {
        return Err(UrlError("certificates are always checked, so #insecure may not follow"));
    }
    // RESP3 tells when the connection breaks, also while nothing is under way.
    let settings = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
    Ok(info.set_redis_settings(settings).set_tcp_settings(TcpSettings::default().set_nodelay(true)))
}

fn sentinel(scheme: &str, rest: &str) -> Result<Topology, UrlError> {
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, path) = rest
        .split_once('/')
        .ok_or(UrlError("must name the master: redis+sentinel://host[:port],…/master[/database]"))?;
    let (credentials, hosts) = credentials_and_hosts(authority);
    let (master, database) = path.split_once('/').unwrap_or((path, ""));
    if master.is_empty() {
        return Err(UrlError("must name the master: redis+sentinel://host[:port],…/master[/database]"));
    }
    let own = sentinel_credentials(query)?;
    let sentinels: Result<Vec<_>, _> = hosts
        .split(',')
        .map(|host| {
            let has_port = host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
            let port = if has_port { String::new() } else { format!(":{SENTINEL_PORT}") };
            info(&format!("{scheme}://{own}{host}{port}"))
        })
        .collect();
    let first = hosts.split(',').next().unwrap_or_default();
    Ok(Topology::Sentinel {
        sentinels: sentinels?,
        master: master.to_owned(),
        node: info(&format!("{scheme}://{credentials}{first}/{database}"))?,
    })
}

fn cluster(scheme: &str, rest: &str) -> Result<Topology, UrlError> {
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    if rest.contains(['/', '?', '#']) {
        return Err(UrlError("a cluster has one database, so nothing may follow the hosts"));
    }
    let (credentials, hosts) = credentials_and_hosts(rest);
    let seeds: Result<Vec<_>, _> =
        hosts.split(',').map(|host| info(&format!("{scheme}://{credentials}{host}"))).collect();
    Ok(Topology::Cluster { seeds: seeds? })
}

/// `user:password@`, which may be empty, and the hosts.
fn credentials_and_hosts(authority: &str) -> (&str, &str) {
    authority.split_at(authority.rfind('@').map_or(0, |at| at + 1))
}

/// `user:password@` for the sentinels, which have users of their own.
fn sentinel_credentials(query: &str) -> Result<String, UrlError> {
    let (mut user, mut password) = ("", "");
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        match pair.split_once('=') {
            Some(("sentinel_user", value)) => user = value,
            Some(("sentinel_password", value)) => password = value,
            _ => return Err(UrlError("only sentinel_user=… and sentinel_password=… may follow the ?")),
        }
    }
    Ok(if user.is_empty() && password.is_empty() { String::new() } else { format!("{user}:{password}@") })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(info: &ConnectionInfo) -> String {
        let settings = info.redis_settings();
        let tls = matches!(info.addr(), ConnectionAddr::TcpTls { .. });
        format!(
            "{}{} {:?} {:?} {}",
            info.addr(),
            if tls { " TLS" } else { "" },
            settings.username(),
            settings.password(),
            settings.db()
        )
    }

    #[test]
    fn each_topology_has_a_form_and_its_credentials() {
        let Ok(Topology::Single(info)) = Topology::parse("rediss://u:p%40@h:1/2") else { panic!() };
        assert_eq!(shown(&info), r#"h:1 TLS Some("u") Some("p@") 2"#);

        let url = "redis+sentinel://u:p@a:1,b,[::1]:3/main/4?sentinel_user=s&sentinel_password=t%26";
        let Ok(Topology::Sentinel { sentinels, master, node }) = Topology::parse(url) else { panic!() };
        assert_eq!(master, "main");
        assert!(shown(&node).ends_with(r#"Some("u") Some("p") 4"#), "{}", shown(&node));
        let sentinels: Vec<_> = sentinels.iter().map(shown).collect();
        let own = r#"Some("s") Some("t&") 0"#;
        assert_eq!(sentinels, [format!("a:1 {own}"), format!("b:26379 {own}"), format!("::1:3 {own}")]);

        let Ok(Topology::Sentinel { sentinels, node, .. }) = Topology::parse("rediss+sentinel://a/main")
        else {
            panic!()
        };
        assert_eq!(shown(&sentinels[0]), "a:26379 TLS None None 0");
        assert_eq!(shown(&at(&node, "c", 9)), "c:9 TLS None None 0");

        let Ok(Topology::Cluster { seeds }) = Topology::parse("rediss-cluster://:p@a:1,b:2/") else {
            panic!()
        };
        let seeds: Vec<_> = seeds.iter().map(shown).collect();
        assert_eq!(seeds, [r#"a:1 TLS None Some("p") 0"#, r#"b:2 TLS None Some("p") 0"#]);
    }

    #[test]
    fn faults_are_named_without_the_url() {
        for (url, fault) in [
            ("", "must be redis://"),
            ("http://u:secret@h", "must be redis://"),
            ("redis://", "must be redis://"),
            ("redis+sentinel://u:secret@a,b", "must name the master"),
            ("redis+sentinel://u:secret@a/", "must name the master"),
            ("redis+sentinel://u:secret@a/main/x", "must be redis://"),
            ("redis+sentinel://a/main?secret=1", "sentinel_password"),
            ("redis-cluster://u:secret@a:1,b:x", "must be redis://"),
            ("redis-cluster://a/1", "one database"),
            ("rediss://u:secret@a#insecure", "always checked"),
        ] {
            let error = Topology::parse(url).expect_err(url).to_string();
            assert!(error.contains(fault) && !error.contains("secret@"), "{url}: {error}");
        }
    }
}
