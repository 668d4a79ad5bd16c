//! A proxy that listens: each command that went over a connection, with its reply, byte for byte.
//!
//! For clients that send one command after another over each connection and take no pushes.

use std::io::{self, Cursor, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::client::{Reply, read_reply};

/// A command and its reply.
pub type Exchange = (Vec<Vec<u8>>, Reply);

/// What went over one connection, in both directions.
#[derive(Clone, Debug, Default)]
struct Heard {
    sent: Vec<u8>,
    answered: Vec<u8>,
}

/// A proxy before a server.
#[derive(Debug)]
pub struct Tap {
    port: u16,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Vec<Arc<Mutex<Heard>>>>>,
}

impl Tap {
    /// Listens on a port of its own and forwards to the server at this one.
    pub fn on(target: u16) -> Tap {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a loopback port");
        listener.set_nonblocking(true).expect("a socket of ours");
        let port = listener.local_addr().expect("an address").port();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let (mut heard, mut pumps) = (Vec::new(), Vec::new());
            while !stopped.load(Ordering::Relaxed) {
                match listener.accept() {
                    Ok((client, _)) => {
                        let connection = Arc::new(Mutex::new(Heard::default()));
                        pumps.extend(join(client, target, &connection).expect("a connection to the server"));
                        heard.push(connection);
                    }
                    Err(_) => thread::sleep(Duration::from_millis(1)),
                }
            }
            for pump in pumps {
                pump.join().expect("a pump");
            }
            heard
        });
        Tap { port, stop, thread: Some(thread) }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Waits until the clients have gone, and tells what went over each connection, in no order that means anything:
    /// clients open several at once.
    ///
    /// # Panics
    /// Where a command has no reply, or a reply no command.
    pub fn finish(mut self) -> Vec<Vec<Exchange>> {
        self.stop.store(true, Ordering::Relaxed);
        let heard = self.thread.take().expect("one thread").join().expect("the tap's thread");
        heard
            .iter()
            .map(|connection| {
                let heard = connection.lock().unwrap_or_else(PoisonError::into_inner);
                let (sent, answered) = (whole(&heard.sent), whole(&heard.answered));
                let words = |reply: &Reply| reply.items().iter().map(|word| word.bytes().to_vec()).collect::<Vec<_>>();
                // The connection may be closed before the last answer has come.
                assert!((0..2).contains(&(sent.len() - answered.len())), "{sent:?} was answered {answered:?}");
                sent.iter().map(words).zip(answered).collect()
            })
            .collect()
    }
}

fn whole(bytes: &[u8]) -> Vec<Reply> {
    let mut cursor = Cursor::new(bytes);
    let mut all = Vec::new();
    while cursor.position() < bytes.len() as u64 {
        all.push(read_reply(&mut cursor).expect("whole commands and replies"));
    }
    all
}

fn join(client: TcpStream, target: u16, heard: &Arc<Mutex<Heard>>) -> io::Result<[JoinHandle<()>; 2]> {
    client.set_nonblocking(false)?;
    let server = TcpStream::connect(("127.0.0.1", target))?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let there = pump(client.try_clone()?, server.try_clone()?, Arc::clone(heard), |heard| &mut heard.sent);
    let back = pump(server, client, Arc::clone(heard), |heard| &mut heard.answered);
    Ok([there, back])
}

fn pump(
    mut from: TcpStream,
    mut to: TcpStream,
    heard: Arc<Mutex<Heard>>,
    side: fn(&mut Heard) -> &mut Vec<u8>,
) -> JoinHandle<()> {
    thread::spawn(move || {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(length @ 1..) = from.read(&mut buffer) {
            side(&mut heard.lock().unwrap_or_else(PoisonError::into_inner)).extend(&buffer[..length]);
            if to.write_all(&buffer[..length]).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Both);
    })
}
