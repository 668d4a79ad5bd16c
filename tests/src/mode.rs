//! The five ways in which the whole suite runs (`BULL_MODE`): what each test left in its server must be the same after a
//! reload of the AOF, after a reload of an RDB, on a replica without the module; and all of it works in a cluster of one
//! shard. It runs when a test drops its server, and never hides that a test failed.

use std::collections::BTreeSet;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use crate::client::{Client, Reply};
use crate::dump::Dump;

/// How long a replica may take to catch up, or a cluster to be whole.
const PATIENCE: Duration = Duration::from_secs(20);

/// What happens to the servers of this run's tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Plain,
    /// Every server writes an AOF, which is loaded again at the end of its test.
    Aof,
    /// Every server is saved and loaded again at the end of its test.
    Rdb,
    /// Every server has a replica that does not know the module.
    Replica,
    /// Every server is a cluster with all slots; `bull:` stands for `{bull}:` on the wire, so that all queues are in one.
    Cluster,
}

impl Mode {
    /// The mode of this run.
    ///
    /// # Panics
    /// Where `BULL_MODE` names none.
    pub fn chosen() -> Mode {
        static MODE: OnceLock<Mode> = OnceLock::new();
        *MODE.get_or_init(|| match std::env::var("BULL_MODE").unwrap_or_default().as_str() {
            "" | "plain" => Mode::Plain,
            "aof" => Mode::Aof,
            "rdb" => Mode::Rdb,
            "replica" => Mode::Replica,
            "cluster" => Mode::Cluster,
            other => panic!("BULL_MODE={other}: say plain, aof, rdb, replica or cluster"),
        })
    }
}

/// Gives a server that just came up all slots.
pub fn take_all_slots(client: &mut Client) {
    if client.cmd(&["CLUSTER", "INFO"]).text().contains("cluster_slots_assigned:0") {
        client.ok(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]);
    }
    let deadline = Instant::now() + PATIENCE;
    while !client.ok(&["CLUSTER", "INFO"]).text().contains("cluster_state:ok") {
        assert!(Instant::now() < deadline, "the cluster of one is not whole within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Reloads the server's data as the mode says and returns what is not as it was. Nothing where the server cannot be asked.
pub fn reload(mode: Mode, client: &mut Client) -> Option<String> {
    let reload: &[&str] = match mode {
        Mode::Aof => &["DEBUG", "LOADAOF"],
        Mode::Rdb => &["DEBUG", "RELOAD"],
        _ => return None,
    };
    hold_writes(client);
    let before = everything(client)?;
    if let Some(error) = client.cmd(reload).error() {
        return Some(format!("{}: {error}", reload.join(" ")));
    }
    difference(&before, &everything(client)?, ["before", "after the reload"])
}

/// Waits until the replica has all that the primary has and returns what they do not share.
pub fn compare(primary: &mut Client, replica: &mut Client) -> Option<String> {
    hold_writes(primary);
    let mine = everything(primary)?;
    let deadline = Instant::now() + PATIENCE;
    loop {
        let offsets = [&mut *primary, &mut *replica].map(|client| field(client, "master_repl_offset"));
        let linked = client_is_linked(replica);
        if linked && offsets[0].is_some() && offsets[0] == offsets[1] {
            break;
        }
        if Instant::now() > deadline {
            return Some(format!(
                "the replica did not catch up within {PATIENCE:?}: offsets {offsets:?}, linked: {linked}"
            ));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    difference(&mine, &everything(replica)?, ["the primary", "its replica without the module"])
}

/// Keeps clients, expiry and the module's own work from changing what is compared. The server goes away afterwards.
fn hold_writes(client: &mut Client) {
    let _ = client.cmd(&["CLIENT", "PAUSE", "600000", "WRITE"]);
}

fn client_is_linked(replica: &mut Client) -> bool {
    field(replica, "master_link_status").as_deref() == Some("up")
}

fn field(client: &mut Client, name: &str) -> Option<String> {
    let info = client.cmd(&["INFO", "replication"]);
    let text = info.error().is_none().then(|| info.text())?;
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':').map(str::to_owned))
}

/// The dumps of all databases that hold keys, taken while clients may not write. Keys that expire by themselves are left
/// out. Nothing where the server asks for a password or is no primary any more.
fn everything(client: &mut Client) -> Option<Vec<(String, Dump)>> {
    let info = client.cmd(&["INFO", "keyspace"]);
    let text = info.error().is_none().then(|| info.text())?;
    let databases: BTreeSet<_> = text.lines().filter_map(|line| line.strip_prefix("db")?.split(':').next()).collect();
    let mut dumps = Vec::new();
    for number in databases {
        if number != "0" || dumps.is_empty() {
            let _ = client.cmd(&["SELECT", number]);
        }
        let mut dump = Dump::take(client);
        dump.0.retain(|_, entry| !entry.expires);
        if !dump.0.is_empty() {
            dumps.push((number.to_owned(), dump));
        }
    }
    Some(dumps)
}

fn difference(left: &[(String, Dump)], right: &[(String, Dump)], names: [&str; 2]) -> Option<String> {
    if left == right {
        return None;
    }
    let numbers: BTreeSet<_> = left.iter().chain(right).map(|(number, _)| number).collect();
    let find = |dumps: &[(String, Dump)], number: &String| {
        dumps.iter().find(|(name, _)| name == number).map(|(_, dump)| dump.clone()).unwrap_or_default()
    };
    let texts = numbers
        .into_iter()
        .map(|number| format!("database {number}:\n{}", find(left, number).diff(&find(right, number), names)));
    Some(format!("{} and {} differ\n{}", names[0], names[1], texts.collect::<Vec<_>>().join("\n")))
}

/// Names of queues and keys on the wire of a cluster: `{bull}:` for `bull:`, so that all of a test is in one slot. A
/// component's bytes stay as they are: their lengths are written in them.
pub fn to_wire(word: &[u8]) -> Vec<u8> {
    if word.starts_with(b"\0asm") { word.to_vec() } else { replace(word, b"bull:", b"{bull}:") }
}

/// The other way round, in replies.
pub fn from_wire(reply: Reply) -> Reply {
    let text = |text: String| text.replace("{bull}:", "bull:");
    let bytes = |bytes: Vec<u8>| replace(&bytes, b"{bull}:", b"bull:");
    let all = |items: Vec<Reply>| items.into_iter().map(from_wire).collect();
    match reply {
        Reply::Simple(line) => Reply::Simple(text(line)),
        Reply::Error(line) => Reply::Error(bytes(line)),
        Reply::Bulk(value) => Reply::Bulk(bytes(value)),
        Reply::Verbatim(value) => Reply::Verbatim(bytes(value)),
        Reply::Array(items) => Reply::Array(all(items)),
        Reply::Set(items) => Reply::Set(all(items)),
        Reply::Push(items) => Reply::Push(all(items)),
        Reply::Map(pairs) => {
            Reply::Map(pairs.into_iter().map(|(key, value)| (from_wire(key), from_wire(value))).collect())
        }
        other => other,
    }
}

/// Every `from` in `bytes` as `to`; one that is already part of a `to` stays.
fn replace(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        if bytes[at..].starts_with(to) {
            out.extend_from_slice(to);
            at += to.len();
        } else if bytes[at..].starts_with(from) {
            out.extend_from_slice(to);
            at += from.len();
        } else {
            out.push(bytes[at]);
            at += 1;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_go_to_the_wire_and_back() {
        for (name, wire) in [("bull:q:1", "{bull}:q:1"), ("a bull:q", "a {bull}:q"), ("BULL.ADD", "BULL.ADD"), ("", "")]
        {
            assert_eq!(to_wire(name.as_bytes()), wire.as_bytes());
            assert_eq!(from_wire(Reply::Bulk(wire.into())), Reply::Bulk(name.into()));
        }
        assert_eq!(to_wire(b"{bull}:q"), b"{bull}:q", "a name that has its tag keeps it");
        assert_eq!(to_wire(b"\0asm bull:"), b"\0asm bull:");
    }
}
