//! A small client that shows replies as they are on the wire, RESP2 and RESP3, and can send any
//! bytes. Tests need raw error texts, maps and pushes, which client libraries interpret.

use std::fmt;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use crate::mode::{self, Mode};
use crate::printable;

/// A server that says nothing for so long is taken to hang.
const SILENCE: Duration = Duration::from_secs(30);
/// A bulk longer than any test asks for means that the stream is out of step.
const MAX_BULK: usize = 1 << 28;

/// One reply.
#[derive(Clone, PartialEq)]
pub enum Reply {
    Simple(String),
    /// The line after `-`, as bytes: a test may want to know that they are ASCII.
    Error(Vec<u8>),
    Int(i64),
    Bulk(Vec<u8>),
    Null,
    Array(Vec<Reply>),
    Map(Vec<(Reply, Reply)>),
    Set(Vec<Reply>),
    Push(Vec<Reply>),
    Double(String),
    Bool(bool),
    BigNumber(String),
    Verbatim(Vec<u8>),
}

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reply::Simple(text) => write!(f, "+{text}"),
            Reply::Error(line) => write!(f, "-{}", printable(line)),
            Reply::Int(number) => write!(f, "{number}"),
            Reply::Bulk(bytes) | Reply::Verbatim(bytes) => write!(f, "\"{}\"", printable(bytes)),
            Reply::Null => f.write_str("null"),
            Reply::Array(items) => f.debug_list().entries(items).finish(),
            Reply::Map(pairs) => f.debug_map().entries(pairs.iter().map(|(key, value)| (key, value))).finish(),
            Reply::Set(items) => f.debug_set().entries(items).finish(),
            Reply::Push(items) => write!(f, ">{items:?}"),
            Reply::Double(text) | Reply::BigNumber(text) => f.write_str(text),
            Reply::Bool(value) => write!(f, "{value}"),
        }
    }
}

impl Reply {
    /// The text of an error reply.
    pub fn error(&self) -> Option<String> {
        match self {
            Reply::Error(line) => Some(printable(line)),
            _ => None,
        }
    }

    /// The first word of an error reply.
    pub fn code(&self) -> Option<String> {
        self.error().map(|text| text.split(' ').next().unwrap_or_default().to_owned())
    }

    /// The bytes of a string of any kind.
    pub fn bytes(&self) -> &[u8] {
        match self {
            Reply::Simple(text) | Reply::Double(text) | Reply::BigNumber(text) => text.as_bytes(),
            Reply::Bulk(bytes) | Reply::Verbatim(bytes) => bytes,
            other => panic!("not a string: {other:?}"),
        }
    }

    /// A string or a number as text.
    pub fn text(&self) -> String {
        match self {
            Reply::Int(number) => number.to_string(),
            other => String::from_utf8_lossy(other.bytes()).into_owned(),
        }
    }

    /// An integer, also one sent as a string.
    pub fn int(&self) -> i64 {
        self.text().parse().unwrap_or_else(|_| panic!("not an integer: {self:?}"))
    }

    /// The elements of an array or a set.
    pub fn items(&self) -> &[Reply] {
        match self {
            Reply::Array(items) | Reply::Set(items) | Reply::Push(items) => items,
            other => panic!("not an array: {other:?}"),
        }
    }

    /// The pairs of a map, or of the flat array that stands for one in RESP2.
    pub fn pairs(&self) -> Vec<(String, Reply)> {
        match self {
            Reply::Map(pairs) => pairs.iter().map(|(key, value)| (key.text(), value.clone())).collect(),
            other => {
                let (pairs, rest) = other.items().as_chunks::<2>();
                assert!(rest.is_empty(), "an odd number of elements: {other:?}");
                pairs.iter().map(|[key, value]| (key.text(), value.clone())).collect()
            }
        }
    }

    /// The value of a key in a map.
    pub fn get(&self, key: &str) -> Option<Reply> {
        self.pairs().into_iter().find_map(|(name, value)| (name == key).then_some(value))
    }

    /// All strings in the reply, however deep.
    pub fn strings(&self) -> Vec<String> {
        match self {
            Reply::Array(items) | Reply::Set(items) | Reply::Push(items) => {
                items.iter().flat_map(Reply::strings).collect()
            }
            Reply::Map(pairs) => {
                pairs.iter().flat_map(|(key, value)| [key.strings(), value.strings()].concat()).collect()
            }
            Reply::Null | Reply::Bool(_) | Reply::Int(_) => vec![],
            Reply::Error(line) => vec![printable(line)],
            other => vec![other.text()],
        }
    }
}

/// One connection.
#[derive(Debug)]
pub struct Client {
    stream: BufReader<TcpStream>,
}

impl Client {
    /// Connects over loopback.
    pub fn connect(port: u16) -> io::Result<Client> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let stream = TcpStream::connect_timeout(&address, Duration::from_secs(2))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(SILENCE))?;
        Ok(Client { stream: BufReader::new(stream) })
    }

    /// Speaks RESP3 from here on.
    pub fn resp3(mut self) -> Client {
        let hello = self.cmd(&["HELLO", "3"]);
        assert!(matches!(hello, Reply::Map(_)), "HELLO 3: {hello:?}");
        self
    }

    /// Sends a command and returns its reply.
    ///
    /// # Panics
    /// Where the connection breaks: in most tests that is a failure by itself.
    pub fn cmd<A: AsRef<[u8]>>(&mut self, args: &[A]) -> Reply {
        self.try_cmd(args).unwrap_or_else(|error| {
            let line: Vec<String> = args.iter().map(|arg| printable(arg.as_ref())).collect();
            panic!("{}: {error}", line.join(" "))
        })
    }

    /// As `cmd`, for a reply that must not be an error.
    pub fn ok<A: AsRef<[u8]>>(&mut self, args: &[A]) -> Reply {
        let reply = self.cmd(args);
        if let Some(error) = reply.error() {
            let line: Vec<String> = args.iter().map(|arg| printable(arg.as_ref())).collect();
            panic!("{}: {error}", line.join(" "));
        }
        reply
    }

    /// As `cmd`, with a broken connection as an error.
    pub fn try_cmd<A: AsRef<[u8]>>(&mut self, args: &[A]) -> io::Result<Reply> {
        self.send(&encode(args))?;
        self.read()
    }

    /// Sends commands in one write and returns a reply for each.
    pub fn pipeline<A: AsRef<[u8]>>(&mut self, commands: &[Vec<A>]) -> io::Result<Vec<Reply>> {
        let bytes: Vec<u8> = commands.iter().flat_map(|command| encode(command)).collect();
        self.send(&bytes)?;
        commands.iter().map(|_| self.read()).collect()
    }

    /// Sends bytes as they are.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.get_mut().write_all(bytes)
    }

    /// Reads one reply.
    pub fn read(&mut self) -> io::Result<Reply> {
        let reply = read_reply(&mut self.stream)?;
        Ok(if Mode::chosen() == Mode::Cluster { mode::from_wire(reply) } else { reply })
    }
}

/// Reads one reply from any stream; a command is an array of bulks, so this reads commands too.
pub fn read_reply(stream: &mut impl BufRead) -> io::Result<Reply> {
    let line = line(stream)?;
    let (kind, rest) = line.split_first().ok_or_else(|| out_of_step("an empty line"))?;
    let text = || String::from_utf8_lossy(rest).into_owned();
    Ok(match kind {
        b'+' => Reply::Simple(text()),
        b'-' => Reply::Error(rest.to_vec()),
        b':' => Reply::Int(number(rest)?),
        b',' => Reply::Double(text()),
        b'(' => Reply::BigNumber(text()),
        b'#' => Reply::Bool(rest == b"t"),
        b'_' => Reply::Null,
        b'$' => bulk(stream, rest)?.map_or(Reply::Null, Reply::Bulk),
        b'=' => bulk(stream, rest)?.map_or(Reply::Null, |bytes| Reply::Verbatim(bytes[4..].to_vec())),
        b'!' => bulk(stream, rest)?.map_or(Reply::Null, Reply::Error),
        b'*' if rest.starts_with(b"-") => Reply::Null,
        b'*' => Reply::Array(many(stream, number(rest)?)?),
        b'~' => Reply::Set(many(stream, number(rest)?)?),
        b'>' => Reply::Push(many(stream, number(rest)?)?),
        b'%' => {
            let count = number(rest)?;
            let pair = |_| Ok((read_reply(stream)?, read_reply(stream)?));
            Reply::Map((0..count).map(pair).collect::<io::Result<_>>()?)
        }
        _ => return Err(out_of_step(&printable(&line))),
    })
}

fn many(stream: &mut impl BufRead, count: i64) -> io::Result<Vec<Reply>> {
    (0..count).map(|_| read_reply(stream)).collect()
}

fn line(stream: &mut impl BufRead) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    stream.read_until(b'\n', &mut line)?;
    if line.is_empty() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    line.strip_suffix(b"\r\n").map(<[u8]>::to_vec).ok_or_else(|| out_of_step(&printable(&line)))
}

fn bulk(stream: &mut impl BufRead, length: &[u8]) -> io::Result<Option<Vec<u8>>> {
    let Ok(length) = usize::try_from(number(length)?) else {
        return Ok(None);
    };
    if length > MAX_BULK {
        return Err(out_of_step("a bulk length"));
    }
    let mut bytes = vec![0; length + 2];
    stream.read_exact(&mut bytes)?;
    bytes.truncate(length);
    Ok(Some(bytes))
}

/// A command as one line, each word cut short.
pub fn printable_words(words: &[Vec<u8>]) -> String {
    words.iter().map(|word| printable(word)).collect::<Vec<_>>().join(" ")
}

/// A command as it goes over the wire, in the names of this run's mode.
pub fn encode<A: AsRef<[u8]>>(args: &[A]) -> Vec<u8> {
    let mut out = format!("*{}\r\n", args.len()).into_bytes();
    for arg in args.iter().map(AsRef::as_ref) {
        let in_cluster = (Mode::chosen() == Mode::Cluster).then(|| mode::to_wire(arg));
        let arg = in_cluster.as_deref().unwrap_or(arg);
        out.extend_from_slice(format!("${}\r\n", arg.len()).as_bytes());
        out.extend_from_slice(arg);
        out.extend_from_slice(b"\r\n");
    }
    out
}

fn number(text: &[u8]) -> io::Result<i64> {
    let parsed = std::str::from_utf8(text).ok().and_then(|text| text.parse().ok());
    parsed.ok_or_else(|| out_of_step(&printable(text)))
}

fn out_of_step(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("not RESP: {what}"))
}
