//! `push`, `status` and `remove`: one policy on many nodes.
//!
//! A push looks at every node before it changes one: a node that cannot be reached, or that the user has no right on,
//! stops it while nothing has changed. It goes node by node and stops at the first refusal, since a policy that one
//! node refuses the others refuse too. The tables show what every node had before and has after.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Args;
use sha2::{Digest, Sha256};

use crate::node::{Node, Reach, Reply, Role};

/// Digits of a digest that a table shows.
const SHOWN: usize = 12;

/// What BULL.POLICY LOAD is told. What is not said stays as it is on each node.
#[derive(Args, Debug)]
pub struct Settings {
    /// The configuration, a JSON object.
    #[arg(long, value_name = "JSON", conflicts_with = "config_file")]
    config: Option<String>,
    /// A file with the configuration.
    #[arg(long, value_name = "FILE")]
    config_file: Option<PathBuf>,
    /// enforce or observe.
    #[arg(long)]
    mode: Option<String>,
    /// Pattern of the qualified names that it covers.
    #[arg(long, value_name = "PATTERN")]
    queues: Option<String>,
    /// Lower is asked first.
    #[arg(long, allow_negative_numbers = true)]
    order: Option<i64>,
    /// admit or reject: the verdict where the policy fails.
    #[arg(long)]
    onerror: Option<String>,
}

impl Settings {
    /// The words between the name and the component.
    fn words(&self) -> Result<Vec<Vec<u8>>> {
        let config = match &self.config_file {
            Some(path) => Some(fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?),
            None => self.config.clone(),
        };
        let order = self.order.map(|order| order.to_string());
        let pairs = [
            ("CONFIG", &config),
            ("MODE", &self.mode),
            ("QUEUES", &self.queues),
            ("ORDER", &order),
            ("ONERROR", &self.onerror),
        ];
        let said = pairs.into_iter().filter_map(|(word, value)| Some((word, value.as_ref()?)));
        Ok(said.flat_map(|(word, value)| [word.as_bytes().to_vec(), value.as_bytes().to_vec()]).collect())
    }
}

/// What one node says of one policy.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Held {
    digest: String,
    version: String,
    mode: String,
    order: String,
    queues: String,
    onerror: String,
    config: String,
    state: String,
}

impl Held {
    fn read(node: &mut Node, name: &str) -> Result<Option<Self>> {
        let reply = match node.send(&["BULL.POLICY", "INFO", name])? {
            Reply::Error(line) if line.starts_with("BULLPOLICY no policy ") => return Ok(None),
            Reply::Error(_) => node.ask(&["BULL.POLICY", "INFO", name])?,
            reply => reply,
        };
        let text = |key: &str| reply.text(key);
        Ok(Some(Self {
            digest: text("digest"),
            version: text("version"),
            mode: text("mode"),
            order: text("order"),
            queues: text("queues"),
            onerror: text("onerror"),
            config: text("config"),
            state: text("state"),
        }))
    }

    /// What has to be the same everywhere: all but the state, which is each node's own.
    fn wanted(&self) -> [&str; 6] {
        [&self.digest, &self.mode, &self.order, &self.queues, &self.onerror, &self.config]
    }
}

/// Loads the policy on every node.
pub fn push(reach: &Reach, file: &Path, name: Option<&str>, settings: &Settings) -> Result<()> {
    let wasm = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    let name = name.map_or_else(|| name_of(file), |name| Ok(name.to_owned()))?;
    let digest = hex(&Sha256::digest(&wasm));
    let words = settings.words()?;
    let mut nodes = every_node(reach)?;
    let before: Vec<Option<Held>> = nodes.iter_mut().map(|node| Held::read(node, &name)).collect::<Result<_>>()?;
    println!("{name}: {} of {} bytes, digest {}", file.display(), wasm.len(), short(&digest));

    let mut refused = None;
    let mut results = Vec::new();
    for node in &mut nodes {
        if refused.is_some() {
            results.push("not tried".to_owned());
            continue;
        }
        let mut command: Vec<&[u8]> = vec![b"BULL.POLICY", b"LOAD", name.as_bytes()];
        command.extend(words.iter().map(Vec::as_slice));
        command.push(&wasm);
        match node.ask(&command) {
            Ok(reply) => results.push(format!("loaded in {} ms", reply.text("compile-ms"))),
            Err(error) => {
                results.push("refused".into());
                refused = Some(error);
            }
        }
    }
    let after: Vec<Option<Held>> = nodes.iter_mut().map(|node| Held::read(node, &name).unwrap_or_default()).collect();
    let mut rows = vec![["node", "role", "before", "after", ""].map(str::to_owned)];
    for (at, node) in nodes.iter().enumerate() {
        let role = node.role.name().to_owned();
        rows.push([node.address.clone(), role, shown(&before[at]), shown(&after[at]), results[at].clone()]);
    }
    print!("{}", table(&rows));
    if let Some(error) = refused {
        return Err(error.context("the push stopped"));
    }
    let wrong = after.iter().filter(|held| held.as_ref().is_none_or(|held| held.digest != digest)).count();
    if wrong > 0 {
        bail!("{wrong} of {} nodes do not have it: somebody else loads policies at the same time", nodes.len());
    }
    match differences(after.iter().flatten()).as_slice() {
        [] => println!("the same on {} nodes", nodes.len()),
        fields => println!("the same component on {} nodes; {} differs, see status", nodes.len(), fields.join(", ")),
    }
    Ok(())
}

/// Takes the policy out of force on every node that has it.
pub fn remove(reach: &Reach, name: &str) -> Result<()> {
    let mut nodes = every_node(reach)?;
    let before: Vec<Option<Held>> = nodes.iter_mut().map(|node| Held::read(node, name)).collect::<Result<_>>()?;
    if before.iter().all(Option::is_none) {
        bail!("no node has a policy '{name}'");
    }
    let mut rows = vec![["node", "role", "before", "after"].map(str::to_owned)];
    for (node, held) in nodes.iter_mut().zip(&before) {
        if held.is_some() {
            node.ask(&["BULL.POLICY", "REMOVE", name])?;
        }
        let after = Held::read(node, name)?;
        rows.push([node.address.clone(), node.role.name().to_owned(), shown(held), shown(&after)]);
    }
    print!("{}", table(&rows));
    Ok(())
}

/// Shows what every node has; an error where they differ or one is missing.
pub fn status(reach: &Reach, name: Option<&str>) -> Result<()> {
    let (mut nodes, lost) = reach.nodes()?;
    let mut names = BTreeSet::new();
    for node in &mut nodes {
        names.extend(node.ask(&["BULL.POLICY", "LIST"])?.items().iter().map(|policy| policy.text("name")));
    }
    if let Some(name) = name {
        names = BTreeSet::from([name.to_owned()]);
    }
    let mut drifted = Vec::new();
    for name in &names {
        let mut held: Vec<(String, Role, Option<Held>)> = Vec::new();
        for node in &mut nodes {
            let read = Held::read(node, name)?;
            held.push((node.address.clone(), node.role, read));
        }
        let (text, fields) = report(name, &held);
        print!("{text}");
        if !fields.is_empty() {
            drifted.push(format!("{name} ({})", fields.join(", ")));
        }
    }
    if names.is_empty() {
        println!("no policies on {} nodes", nodes.len());
    }
    for line in &lost {
        println!("not reached: {line}");
    }
    match (drifted.is_empty(), lost.is_empty()) {
        (true, true) => Ok(()),
        (false, _) => bail!("drift: {}", drifted.join("; ")),
        (true, false) => bail!("{} nodes were not reached", lost.len()),
    }
}

/// The lines on one policy, and the fields in which the nodes differ.
fn report(name: &str, held: &[(String, Role, Option<Held>)]) -> (String, Vec<&'static str>) {
    let header = ["node", "role", "digest", "version", "mode", "order", "queues", "onerror", "config", "state"];
    let mut rows = vec![header.map(str::to_owned)];
    for (address, role, held) in held {
        let cells = held.as_ref().map_or_else(
            || ["-"; 8].map(str::to_owned),
            |held| {
                let config = short(&hex(&Sha256::digest(held.config.as_bytes())));
                [
                    short(&held.digest),
                    held.version.clone(),
                    held.mode.clone(),
                    held.order.clone(),
                    held.queues.clone(),
                    held.onerror.clone(),
                    config,
                    held.state.clone(),
                ]
            },
        );
        let [a, b, c, d, e, f, g, h] = cells;
        rows.push([address.clone(), role.name().to_owned(), a, b, c, d, e, f, g, h]);
    }
    let mut fields = differences(held.iter().filter_map(|(_, _, held)| held.as_ref()));
    let missing = held.iter().filter(|(_, _, held)| held.is_none()).count();
    if missing > 0 {
        fields.insert(0, "missing");
    }
    let verdict = match fields.as_slice() {
        [] => format!("the same on {} nodes", held.len()),
        _ => format!("DRIFT: {}", fields.join(", ")),
    };
    let mut text = format!("{name}: {verdict}\n");
    let _ = write!(text, "{}", table(&rows));
    // Digests of configurations say that they differ; this says how.
    if fields.contains(&"config") {
        let mut texts = BTreeMap::<&str, Vec<&str>>::new();
        for (address, _, held) in held {
            if let Some(held) = held {
                texts.entry(&held.config).or_default().push(address);
            }
        }
        for (config, addresses) in texts {
            let _ = writeln!(text, "  {} has {config}", addresses.join(", "));
        }
    }
    (text, fields)
}

fn differences<'a>(held: impl Iterator<Item = &'a Held> + Clone) -> Vec<&'static str> {
    let names = ["digest", "mode", "order", "queues", "onerror", "config"];
    let differs = |at: usize| held.clone().map(|held| held.wanted()[at]).collect::<BTreeSet<_>>().len() > 1;
    names.into_iter().enumerate().filter(|(at, _)| differs(*at)).map(|(_, name)| name).collect()
}

fn every_node(reach: &Reach) -> Result<Vec<Node>> {
    let (nodes, lost) = reach.nodes()?;
    if !lost.is_empty() {
        bail!("nothing was changed, since these nodes were not reached: {}", lost.join("; "));
    }
    Ok(nodes)
}

/// The policy's name from the file's: `backlog_guard.wasm` is backlog-guard.
pub fn name_of(file: &Path) -> Result<String> {
    let stem = file.file_stem().and_then(|stem| stem.to_str()).context("the file has no name; use --name")?;
    Ok(stem.replace('_', "-"))
}

fn shown(held: &Option<Held>) -> String {
    held.as_ref().map_or_else(|| "-".to_owned(), |held| short(&held.digest))
}

fn short(digest: &str) -> String {
    digest.chars().take(SHOWN).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Columns as wide as their widest cell.
fn table<const N: usize>(rows: &[[String; N]]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..N).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let line: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        let _ = writeln!(text, "  {}", line.join("  ").trim_end());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(digest: &str, config: &str) -> Held {
        let text = |text: &str| text.to_owned();
        Held {
            digest: text(digest),
            version: text("1.0.0"),
            mode: text("enforce"),
            order: text("100"),
            queues: text("*"),
            onerror: text("admit"),
            config: text(config),
            state: text("ready"),
        }
    }

    fn rows(held: &[Option<Held>]) -> Vec<(String, Role, Option<Held>)> {
        let numbered = held.iter().enumerate();
        numbered.map(|(at, held)| (format!("n:{at}"), Role::Primary, held.clone())).collect()
    }

    #[test]
    fn nodes_with_the_same_policy_do_not_drift_whatever_their_state() {
        let suspended = Held { state: "suspended".into(), ..held("aa", "{}") };
        let (text, fields) = report("p", &rows(&[Some(held("aa", "{}")), Some(suspended)]));
        assert!(fields.is_empty());
        assert!(text.starts_with("p: the same on 2 nodes\n"), "{text}");
    }

    #[test]
    fn drift_is_named_by_its_fields() {
        let observing = Held { mode: "observe".into(), ..held("aa", "{}") };
        let cases = [
            (vec![Some(held("aa", "{}")), None], "missing"),
            (vec![Some(held("aa", "{}")), Some(held("bb", "{}"))], "digest"),
            (vec![Some(held("aa", "{}")), Some(observing)], "mode"),
            (vec![Some(held("aa", "{}")), Some(held("bb", "{\"a\":1}")), None], "missing, digest, config"),
        ];
        for (held, expected) in cases {
            let (text, fields) = report("p", &rows(&held));
            assert_eq!(fields.join(", "), expected);
            assert!(text.starts_with(&format!("p: DRIFT: {expected}\n")), "{text}");
        }
    }

    #[test]
    fn configurations_that_differ_are_shown() {
        let (text, _) =
            report("p", &rows(&[Some(held("a", "{}")), Some(held("a", r#"{"x":1}"#)), Some(held("a", "{}"))]));
        assert!(text.contains("  n:1 has {\"x\":1}\n  n:0, n:2 has {}\n"), "{text}");
    }

    #[test]
    fn a_name_comes_from_the_file() {
        assert_eq!(name_of(Path::new("target/policies/backlog_guard.wasm")).unwrap(), "backlog-guard");
    }

    #[test]
    fn digests_are_those_of_sha256sum() {
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(hex(&Sha256::digest(b"")), empty);
    }
}
