//! A primary that is none: it takes a replica on with an empty data set and sends it whatever commands a test wants, which
//! a real one never would.

use std::io::{BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use crate::client::{encode, read_reply};

/// An empty RDB file, without a checksum.
const EMPTY: &[u8] = b"REDIS0009\xff\0\0\0\0\0\0\0\0";
/// A replica that says nothing for so long is taken to hang.
const SILENCE: Duration = Duration::from_secs(20);

/// A listening primary.
#[derive(Debug)]
pub struct FakePrimary {
    listener: TcpListener,
}

/// A link to a replica that has the empty data set.
#[derive(Debug)]
pub struct Link {
    stream: TcpStream,
}

impl FakePrimary {
    /// Listens on a free loopback port.
    pub fn listen() -> FakePrimary {
        FakePrimary { listener: TcpListener::bind("127.0.0.1:0").expect("a loopback port") }
    }

    pub fn port(&self) -> u16 {
        self.listener.local_addr().expect("an address").port()
    }

    /// Waits for a replica and takes it on.
    ///
    /// # Panics
    /// Where it does not speak as replicas do.
    pub fn accept(&self) -> Link {
        let (mut stream, _) = self.listener.accept().expect("a replica");
        stream.set_read_timeout(Some(SILENCE)).expect("a timeout");
        let mut reader = BufReader::new(stream.try_clone().expect("a handle"));
        loop {
            let words = read_reply(&mut reader).expect("a command of the handshake").strings();
            let answer = match words[0].to_ascii_uppercase().as_str() {
                "PING" => "+PONG\r\n".to_owned(),
                "PSYNC" => format!("+FULLRESYNC {} 0\r\n${}\r\n", "a".repeat(40), EMPTY.len()),
                _ => "+OK\r\n".to_owned(),
            };
            stream.write_all(answer.as_bytes()).expect("a replica that reads");
            if words[0].eq_ignore_ascii_case("PSYNC") {
                stream.write_all(EMPTY).expect("a replica that reads");
                return Link { stream };
            }
        }
    }
}

impl Link {
    /// Sends commands down the link; none is answered.
    pub fn send(&mut self, commands: &[Vec<Vec<u8>>]) {
        let bytes: Vec<u8> = commands.iter().flat_map(|command| encode(command)).collect();
        self.stream.write_all(&bytes).expect("a replica that reads");
    }
}
