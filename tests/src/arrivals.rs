//! A PING a millisecond, each answer timed by the kernel as it arrives, not when this thread gets to read it: on a machine
//! whose cores are all taken the difference is the prober's own, and none of the server's. For benches; it never waits for an
//! answer before it sends the next PING.

use std::io::{self, IoSliceMut, Write};
use std::net::TcpStream;
use std::os::fd::{AsFd, AsRawFd};
use std::time::{Duration, Instant, SystemTime};

use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::socket::sockopt::ReceiveTimestampns;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg, setsockopt};
use nix::sys::time::TimeSpec;

use crate::cores::{Cores, Reading};
use crate::probe::{Latency, Wait};

const PERIOD: Duration = Duration::from_millis(1);
const CALL: &[u8] = b"PING\r\n";
const ANSWER: &[u8] = b"+PONG\r\n";
/// Answers that are still awaited when the probe is stopped.
const LAST_ANSWER: Duration = Duration::from_secs(10);

/// Probes the server at this port, whose process this is, until `stop` says so.
///
/// # Errors
/// Where the server cannot be reached, goes away, answers otherwise or not at all.
///
/// # Panics
/// Where it was stopped before the first answer.
pub fn watch(port: u16, process: u32, mut stop: impl FnMut() -> bool) -> io::Result<Latency> {
    let mut connection = Connection::open(port)?;
    let cores = Cores::of_server(process);
    let mut sent: Vec<(Instant, Reading)> = Vec::new();
    let mut waits: Vec<Wait> = Vec::new();
    let mut planned = Instant::now();
    let mut deadline = None;
    loop {
        let now = Instant::now();
        if deadline.is_none() && stop() {
            deadline = Some(now + LAST_ANSWER);
        }
        if deadline.is_some_and(|at| waits.len() == sent.len() || now > at) {
            break;
        }
        if deadline.is_none() && now >= planned {
            let before = cores.read();
            sent.push((Instant::now(), before));
            connection.stream.write_all(CALL)?;
            // After our own oversleeping there is no burst to catch up.
            planned = if now - planned > PERIOD { now + PERIOD } else { planned + PERIOD };
        }
        while let Some(answered) = connection.answer(planned.saturating_duration_since(Instant::now()))? {
            let after = cores.read();
            let (since, before) = sent[waits.len()];
            waits.push(Wait { since, answered: answered.max(since), before, after });
        }
    }
    match waits.len() == sent.len() {
        true => Ok(Latency::of(&waits)),
        false => Err(io::Error::new(io::ErrorKind::TimedOut, "PINGs were not answered")),
    }
}

struct Connection {
    stream: TcpStream,
    /// What has arrived of an answer.
    part: Vec<u8>,
}

impl Connection {
    fn open(port: u16) -> io::Result<Connection> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_nodelay(true)?;
        setsockopt(&stream, ReceiveTimestampns, &true)?;
        Ok(Connection { stream, part: Vec::new() })
    }

    /// When the next answer arrived; `None` where none does within this time.
    fn answer(&mut self, within: Duration) -> io::Result<Option<Instant>> {
        let mut polled = [PollFd::new(self.stream.as_fd(), PollFlags::POLLIN)];
        if ppoll(&mut polled, Some(TimeSpec::from(within)), None)? == 0 {
            return Ok(None);
        }
        // No more than the rest of one answer: the kernel tells the time of the last byte that was read.
        let mut bytes = [0; ANSWER.len()];
        let rest = ANSWER.len() - self.part.len();
        let mut space = nix::cmsg_space!(TimeSpec);
        let mut slices = [IoSliceMut::new(&mut bytes[..rest])];
        let message = recvmsg::<()>(self.stream.as_raw_fd(), &mut slices, Some(&mut space), MsgFlags::empty())?;
        let read = message.bytes;
        let arrived = message.cmsgs()?.find_map(|message| match message {
            ControlMessageOwned::ScmTimestampns(time) => Some(SystemTime::UNIX_EPOCH + Duration::from(time)),
            _ => None,
        });
        let ago = arrived.and_then(|time| time.elapsed().ok()).unwrap_or_default();
        let arrived = Instant::now() - ago;
        self.part.extend_from_slice(&bytes[..read]);
        if read == 0 || !ANSWER.starts_with(&self.part) {
            let answer = crate::printable(&self.part);
            return Err(io::Error::other(format!("the server closed the connection or answered otherwise: {answer}")));
        }
        if self.part.len() < ANSWER.len() {
            return Ok(None);
        }
        self.part.clear();
        Ok(Some(arrived))
    }
}
