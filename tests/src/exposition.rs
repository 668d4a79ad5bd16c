//! Reads Prometheus' text format strictly, and fetches it over HTTP.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

/// One scrape: values by series, as `name{label="value",...}` with sorted labels.
#[derive(Debug, Default)]
pub struct Scrape {
    pub series: BTreeMap<String, f64>,
    /// Kinds by the name of the metric.
    pub kinds: BTreeMap<String, String>,
}

impl Scrape {
    /// # Panics
    /// Where a line is malformed, a series comes twice, or has no HELP and TYPE before it.
    pub fn parse(text: &str) -> Scrape {
        let mut scrape = Scrape::default();
        let mut helped = String::new();
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, help) = rest.split_once(' ').unwrap_or_else(|| panic!("no help: {line}"));
                assert!(help.len() > 3, "{line}");
                name.clone_into(&mut helped);
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').unwrap_or_else(|| panic!("no type: {line}"));
                assert_eq!(name, helped, "TYPE without its HELP");
                assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
                assert!(scrape.kinds.insert(name.into(), kind.into()).is_none(), "twice: {line}");
            } else {
                let (series, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no value: {line}"));
                let name = series.split('{').next().unwrap_or_default();
                let base = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
                let family = base.filter(|base| scrape.kinds.get(*base).is_some_and(|kind| kind == "histogram"));
                assert!(scrape.kinds.contains_key(family.unwrap_or(name)), "{name} has no TYPE");
                let value = value.parse().unwrap_or_else(|_| panic!("not a number: {line}"));
                assert!(scrape.series.insert(sorted(series), value).is_none(), "twice: {line}");
            }
        }
        scrape
    }

    /// The value of a series, named as in the text.
    #[track_caller]
    pub fn get(&self, series: &str) -> f64 {
        self.find(series).unwrap_or_else(|| panic!("no series {series}"))
    }

    pub fn find(&self, series: &str) -> Option<f64> {
        self.series.get(&sorted(series)).copied()
    }

    /// Sum over the series of a metric.
    pub fn sum(&self, name: &str) -> f64 {
        let of = |series: &str| series.split('{').next() == Some(name);
        self.series.iter().filter(|(series, _)| of(series)).map(|(_, value)| value).sum()
    }

    /// Names of metrics as queries use them: of a histogram its three.
    pub fn names(&self) -> Vec<String> {
        self.kinds
            .iter()
            .flat_map(|(name, kind)| match kind.as_str() {
                "histogram" => ["_bucket", "_sum", "_count"].map(|end| format!("{name}{end}")).to_vec(),
                _ => vec![name.clone()],
            })
            .collect()
    }
}

/// The series with its labels in order. Values of the tests hold no comma.
fn sorted(series: &str) -> String {
    let Some((name, labels)) = series.split_once('{') else { return series.to_owned() };
    let labels = labels.strip_suffix('}').unwrap_or_else(|| panic!("no end of labels: {series}"));
    let mut labels: Vec<&str> = labels.split(',').collect();
    labels.sort_unstable();
    format!("{name}{{{}}}", labels.join(","))
}

/// Status and body of a GET on loopback; None where nobody listens.
pub fn try_get(port: u16, path: &str) -> Option<(u16, String)> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(2)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a socket");
    stream.write_all(format!("GET {path} HTTP/1.0\r\nhost: localhost\r\n\r\n").as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some((status, body.to_owned()))
}

/// A scrape of `/metrics`.
///
/// # Panics
/// Where it is not served.
pub fn scrape(port: u16) -> Scrape {
    let (status, body) = try_get(port, "/metrics").unwrap_or_else(|| panic!("nothing is served on port {port}"));
    assert_eq!(status, 200, "{body}");
    Scrape::parse(&body)
}
