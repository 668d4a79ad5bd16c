//! Servers: how to reach them, what they answer, and which others belong to them.
//!
//! A cluster's nodes come from CLUSTER SHARDS, a primary's replicas from INFO. Passwords come from the environment or a
//! file, never from the command line, where every user of the machine can read them.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use clap::Args;
use redis::{
    Client, ClientTlsConfig, Cmd, Connection, ConnectionAddr, ConnectionLike, IntoConnectionInfo, RedisConnectionInfo,
    TlsCertificates, Value,
};

/// How long a node may take to accept, and to answer a command: a load may take 10 s in the server.
const CONNECT: Duration = Duration::from_secs(5);
const ANSWER: Duration = Duration::from_secs(15);

/// Which nodes, and how to reach them.
#[derive(Args, Debug)]
pub struct Reach {
    /// A server, as host:port; may be repeated.
    #[arg(long = "node", value_name = "HOST:PORT", env = "BULL_NODE", default_value = "127.0.0.1:6379")]
    nodes: Vec<String>,
    /// Also every other node of its cluster, primaries and replicas; without a cluster, the primary and its replicas.
    #[arg(long)]
    all: bool,
    /// The ACL user. Its password is read from REDISCLI_AUTH, or from --password-file.
    #[arg(long)]
    user: Option<String>,
    /// A file with the password on its first line.
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// Speak TLS, and trust what the system trusts.
    #[arg(long)]
    tls: bool,
    /// Trust this authority (PEM) instead of the system's.
    #[arg(long, value_name = "FILE", requires = "tls")]
    cacert: Option<PathBuf>,
    /// The client's certificate (PEM), where the servers ask for one.
    #[arg(long, value_name = "FILE", requires = "tls", requires = "key")]
    cert: Option<PathBuf>,
    /// The key of --cert (PEM).
    #[arg(long, value_name = "FILE", requires = "cert")]
    key: Option<PathBuf>,
}

/// A connection to one node.
pub struct Node {
    /// host:port, as it was reached.
    pub address: String,
    pub role: Role,
    connection: Connection,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Primary,
    Replica,
}

impl Role {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Primary => "primary",
            Self::Replica => "replica",
        }
    }
}

/// A reply, as far as this tool reads them.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    Nil,
    Text(String),
    Error(String),
    List(Vec<Reply>),
}

impl Reply {
    /// The reply on one line, as a transcript shows it.
    pub fn line(&self) -> String {
        match self {
            Self::Nil => "(nil)".into(),
            Self::Text(text) | Self::Error(text) => text.clone(),
            Self::List(items) => items.iter().map(Reply::line).collect::<Vec<_>>().join(" "),
        }
    }

    /// The value of a key in a map, or in the flat list that stands for one.
    pub fn get(&self, key: &str) -> Option<&Reply> {
        let Self::List(items) = self else { return None };
        items.as_chunks::<2>().0.iter().find(|[name, _]| name.line() == key).map(|[_, value]| value)
    }

    pub fn text(&self, key: &str) -> String {
        self.get(key).map(Reply::line).unwrap_or_default()
    }

    pub fn items(&self) -> &[Reply] {
        match self {
            Self::List(items) => items,
            _ => &[],
        }
    }

    fn of(value: Value) -> Self {
        let list = |items: Vec<Value>| Self::List(items.into_iter().map(Self::of).collect());
        match value {
            Value::Nil => Self::Nil,
            Value::Okay => Self::Text("OK".into()),
            Value::Int(number) => Self::Text(number.to_string()),
            Value::Double(number) => Self::Text(number.to_string()),
            Value::Boolean(value) => Self::Text(i32::from(value).to_string()),
            Value::SimpleString(text) => Self::Text(text),
            Value::BulkString(bytes) => Self::Text(String::from_utf8_lossy(&bytes).into_owned()),
            Value::VerbatimString { text, .. } => Self::Text(text),
            Value::Array(items) | Value::Set(items) => list(items),
            Value::Map(pairs) => list(pairs.into_iter().flat_map(|(key, value)| [key, value]).collect()),
            Value::ServerError(error) => {
                Self::Error(format!("{} {}", error.code(), error.details().unwrap_or_default()))
            }
            other => Self::Text(format!("{other:?}")),
        }
    }
}

impl Reach {
    /// Connections to the nodes that were named, and with `--all` to those that belong to them; each once. Beside
    /// them, the nodes that could not be reached, with the reason.
    pub fn nodes(&self) -> Result<(Vec<Node>, Vec<String>)> {
        let access = self.access()?;
        let mut wanted = self.nodes.clone();
        let (mut nodes, mut lost) = (Vec::<Node>::new(), Vec::new());
        let mut at = 0;
        while let Some(address) = wanted.get(at).cloned() {
            at += 1;
            match access.connect(&address) {
                Ok(mut node) => {
                    if self.all {
                        let others = node.relatives(access.tls.is_some())?;
                        let new: Vec<String> = others.into_iter().filter(|other| !wanted.contains(other)).collect();
                        wanted.extend(new);
                    }
                    nodes.push(node);
                }
                Err(error) => lost.push(format!("{address}: {error:#}")),
            }
        }
        one_each(&mut nodes)?;
        Ok((nodes, lost))
    }

    fn access(&self) -> Result<Access> {
        let read = |path: &PathBuf| fs::read(path).with_context(|| format!("cannot read {}", path.display()));
        let password = match &self.password_file {
            Some(path) => {
                let bytes = read(path)?;
                let text = String::from_utf8_lossy(&bytes);
                Some(text.lines().next().unwrap_or_default().to_owned())
            }
            None => std::env::var("REDISCLI_AUTH").ok().filter(|text| !text.is_empty()),
        };
        if self.user.is_some() && password.is_none() {
            bail!("--user needs a password: set REDISCLI_AUTH or name a --password-file");
        }
        let client_tls = match (&self.cert, &self.key) {
            (Some(cert), Some(key)) => Some(ClientTlsConfig { client_cert: read(cert)?, client_key: read(key)? }),
            _ => None,
        };
        let root_cert = self.cacert.as_ref().map(read).transpose()?;
        let tls = self.tls.then_some(TlsCertificates { client_tls, root_cert });
        Ok(Access { user: self.user.clone(), password, tls })
    }
}

/// Keeps one connection to a server that was reached under two names, such as localhost and 127.0.0.1.
fn one_each(nodes: &mut Vec<Node>) -> Result<()> {
    let ids: Vec<String> = nodes.iter_mut().map(|node| node.info("server", "run_id")).collect::<Result<_>>()?;
    let mut at = 0;
    nodes.retain(|_| {
        let new = !ids[..at].contains(&ids[at]);
        at += 1;
        new
    });
    Ok(())
}

/// What a connection needs besides the address.
struct Access {
    user: Option<String>,
    password: Option<String>,
    tls: Option<TlsCertificates>,
}

impl Access {
    fn connect(&self, address: &str) -> Result<Node> {
        let (host, port) = split(address)?;
        let addr = match &self.tls {
            None => ConnectionAddr::Tcp(host, port),
            Some(_) => ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None },
        };
        let mut redis = RedisConnectionInfo::default().set_skip_set_lib_name();
        if let Some(user) = &self.user {
            redis = redis.set_username(user);
        }
        if let Some(password) = &self.password {
            redis = redis.set_password(password);
        }
        let info = addr.into_connection_info()?.set_redis_settings(redis);
        let client = match &self.tls {
            None => Client::open(info),
            Some(certificates) => Client::build_with_tls(info, certificates.clone()),
        }?;
        let connection = client.get_connection_with_timeout(CONNECT)?;
        connection.set_read_timeout(Some(ANSWER))?;
        connection.set_write_timeout(Some(ANSWER))?;
        let mut node = Node { address: address.to_owned(), role: Role::Primary, connection };
        if node.info("replication", "role")? == "slave" {
            node.role = Role::Replica;
        }
        Ok(node)
    }
}

impl Node {
    /// A connection without TLS or password, as to a server of our own.
    pub fn plain(address: &str) -> Result<Self> {
        Access { user: None, password: None, tls: None }.connect(address)
    }

    /// Sends a command; an error reply is a reply.
    pub fn send<W: AsRef<[u8]>>(&mut self, words: &[W]) -> Result<Reply> {
        let mut command = Cmd::new();
        for word in words {
            command.arg(word.as_ref());
        }
        match self.connection.req_command(&command) {
            Ok(value) => Ok(Reply::of(value)),
            Err(error) => match error.code() {
                Some(code) if !error.is_io_error() => {
                    Ok(Reply::Error(format!("{code} {}", error.detail().unwrap_or_default())))
                }
                _ => Err(anyhow!("{}: {error}", self.address)),
            },
        }
    }

    /// Sends a command that has to succeed.
    pub fn ask<W: AsRef<[u8]>>(&mut self, words: &[W]) -> Result<Reply> {
        match self.send(words)? {
            Reply::Error(line) if line.contains("unknown command") => {
                bail!("{}: {line}; is the module loaded there?", self.address)
            }
            Reply::Error(line) => bail!("{}: {line}", self.address),
            reply => Ok(reply),
        }
    }

    /// One field of a section of INFO.
    pub fn info(&mut self, section: &str, field: &str) -> Result<String> {
        let text = self.ask(&["INFO", section])?.line();
        let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        line.map(str::to_owned).with_context(|| format!("{}: INFO {section} has no {field}", self.address))
    }

    /// The nodes that belong together with this one, as addresses.
    fn relatives(&mut self, tls: bool) -> Result<Vec<String>> {
        if self.info("cluster", "cluster_enabled")?.trim() == "1" {
            let shards = self.ask(&["CLUSTER", "SHARDS"])?;
            let host = split(&self.address)?.0;
            return Ok(of_shards(&shards, &host, tls));
        }
        let text = self.ask(&["INFO", "replication"])?.line();
        Ok(of_replication(&text))
    }
}

/// Addresses of all nodes in a reply to CLUSTER SHARDS.
fn of_shards(shards: &Reply, asked: &str, tls: bool) -> Vec<String> {
    let nodes = shards.items().iter().filter_map(|shard| shard.get("nodes")).flat_map(Reply::items);
    nodes
        .filter_map(|node| {
            let known = |key: &str| node.get(key).map(Reply::line).filter(|text| !text.is_empty() && text != "(nil)");
            // A certificate is made out to a name rather than to an address.
            let host =
                known("hostname").or_else(|| known("endpoint").filter(|host| host != "?")).or_else(|| known("ip"));
            let port = if tls { known("tls-port") } else { known("port") }?;
            Some(format!("{}:{port}", host.unwrap_or_else(|| asked.to_owned())))
        })
        .collect()
}

/// Addresses of the primary or the replicas in INFO replication.
fn of_replication(text: &str) -> Vec<String> {
    let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':').map(str::trim));
    if let (Some(host), Some(port)) = (field("master_host"), field("master_port")) {
        return vec![format!("{host}:{port}")];
    }
    let replicas = text.lines().filter(|line| line.starts_with("slave") && line.contains(":ip="));
    replicas
        .filter_map(|line| {
            let part = |name: &str| line.split([':', ',']).find_map(|part| part.strip_prefix(name)?.strip_prefix('='));
            Some(format!("{}:{}", part("ip")?, part("port")?.trim()))
        })
        .collect()
}

/// Host and port; an IPv6 address may stand in brackets.
fn split(address: &str) -> Result<(String, u16)> {
    let parts = address.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse().ok()?)));
    let Some((host, port)) = parts.filter(|(host, _)| !host.is_empty()) else {
        bail!("'{address}' is not host:port");
    };
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    Ok((bare.to_owned(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(items: Vec<Reply>) -> Reply {
        Reply::List(items)
    }

    fn map(pairs: &[(&str, &str)]) -> Reply {
        list(pairs.iter().flat_map(|(key, value)| [*key, *value].map(|text| Reply::Text(text.into()))).collect())
    }

    #[test]
    fn an_address_is_host_and_port() {
        assert_eq!(split("redis-0.cache:6379").unwrap(), ("redis-0.cache".into(), 6379));
        assert_eq!(split("[::1]:7000").unwrap(), ("::1".into(), 7000));
        for wrong in ["", "host", "host:", ":6379", "host:70000", "host:port"] {
            assert_eq!(split(wrong).unwrap_err().to_string(), format!("'{wrong}' is not host:port"));
        }
    }

    #[test]
    fn the_nodes_of_a_cluster_come_with_name_or_address_and_the_port_for_the_way() {
        let nodes = list(vec![
            map(&[("id", "a"), ("port", "1"), ("tls-port", "11"), ("ip", "10.0.0.1"), ("endpoint", "10.0.0.1")]),
            map(&[("id", "b"), ("port", "2"), ("tls-port", "12"), ("ip", "10.0.0.2"), ("hostname", "two.example")]),
            map(&[("id", "c"), ("port", "3"), ("tls-port", "13"), ("ip", ""), ("endpoint", "?")]),
            map(&[("id", "d"), ("tls-port", "14"), ("ip", "10.0.0.4")]),
        ]);
        let shards =
            list(vec![list(vec![Reply::Text("slots".into()), list(vec![]), Reply::Text("nodes".into()), nodes])]);
        assert_eq!(of_shards(&shards, "asked", false), ["10.0.0.1:1", "two.example:2", "asked:3"]);
        assert_eq!(of_shards(&shards, "asked", true), ["10.0.0.1:11", "two.example:12", "asked:13", "10.0.0.4:14"]);
    }

    #[test]
    fn a_primary_names_its_replicas_and_a_replica_its_primary() {
        let primary = "role:master\r\nconnected_slaves:2\r\nslave0:ip=127.0.0.1,port=7001,state=online,offset=1,lag=0\r\nslave1:ip=::1,port=7002,state=online\r\n";
        assert_eq!(of_replication(primary)[0], "127.0.0.1:7001");
        assert_eq!(of_replication("role:slave\r\nmaster_host:10.0.0.9\r\nmaster_port:6379\r\n"), ["10.0.0.9:6379"]);
        assert!(of_replication("role:master\r\nconnected_slaves:0\r\n").is_empty());
    }

    #[test]
    fn replies_are_read_as_maps_and_lines() {
        let reply = map(&[("name", "a"), ("digest", "d")]);
        assert_eq!((reply.text("digest").as_str(), reply.text("none").as_str()), ("d", ""));
        assert_eq!(list(vec![Reply::Nil, reply]).line(), "(nil) name a digest d");
    }
}
