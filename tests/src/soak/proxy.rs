//! A proxy before servers that change roles: clients keep one address, and a switch cuts them off. It can also be slow, or
//! keep all bytes back as a network does that is parted.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

/// Forwards each connection to the server that it points at.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    target: Arc<AtomicU16>,
    open: Arc<Mutex<Vec<TcpStream>>>,
    stop: Arc<AtomicBool>,
    weather: Arc<Weather>,
}

/// What becomes of bytes on their way.
#[derive(Debug, Default)]
struct Weather {
    /// Milliseconds that each piece waits.
    lag_ms: AtomicU64,
    /// Nothing goes through.
    parted: AtomicBool,
}

impl Weather {
    fn pass(&self) {
        while self.parted.load(Ordering::Relaxed) {
            thread::sleep(Duration::from_millis(1));
        }
        thread::sleep(Duration::from_millis(self.lag_ms.load(Ordering::Relaxed)));
    }
}

impl Proxy {
    pub fn to(target: u16) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a loopback port");
        listener.set_nonblocking(true).expect("a socket of ours");
        let proxy = Proxy {
            port: listener.local_addr().expect("an address").port(),
            target: Arc::new(AtomicU16::new(target)),
            open: Arc::default(),
            stop: Arc::default(),
            weather: Arc::default(),
        };
        let (target, open, stop) = (Arc::clone(&proxy.target), Arc::clone(&proxy.open), Arc::clone(&proxy.stop));
        let weather = Arc::clone(&proxy.weather);
        thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                match listener.accept() {
                    Ok((client, _)) => join(client, &target, &open, &weather),
                    Err(_) => thread::sleep(Duration::from_millis(1)),
                }
            }
        });
        proxy
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Each piece waits so long from here on.
    pub fn lag(&self, wait: Duration) {
        self.weather.lag_ms.store(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Keeps all bytes back until [`Proxy::heal`].
    pub fn part(&self) {
        self.weather.parted.store(true, Ordering::Relaxed);
    }

    /// No lag, no parting.
    pub fn heal(&self) {
        self.weather.lag_ms.store(0, Ordering::Relaxed);
        self.weather.parted.store(false, Ordering::Relaxed);
    }

    /// Points at another server; connections to the old one are cut.
    pub fn switch(&self, target: u16) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        self.target.store(target, Ordering::SeqCst);
        for stream in open.drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.heal();
        self.switch(0);
    }
}

fn join(client: TcpStream, target: &AtomicU16, open: &Mutex<Vec<TcpStream>>, weather: &Arc<Weather>) {
    let pointed = target.load(Ordering::SeqCst);
    let Ok(server) = TcpStream::connect(("127.0.0.1", pointed)) else { return };
    let Ok(()) = client.set_nonblocking(false) else { return };
    let pairs = [(client.try_clone(), server.try_clone()), (server.try_clone(), client.try_clone())];
    {
        let mut open = open.lock().unwrap_or_else(PoisonError::into_inner);
        // A switch in between has not seen this pair.
        if target.load(Ordering::SeqCst) != pointed {
            return;
        }
        open.extend([client, server]);
    }
    for (from, to) in pairs {
        let (Ok(mut from), Ok(mut to)) = (from, to) else { return };
        let _ = (from.set_nodelay(true), to.set_nodelay(true));
        let weather = Arc::clone(weather);
        thread::spawn(move || {
            let mut buffer = vec![0; 64 * 1024];
            while let Ok(length @ 1..) = from.read(&mut buffer) {
                weather.pass();
                if to.write_all(&buffer[..length]).is_err() {
                    break;
                }
            }
            let _ = to.shutdown(Shutdown::Both);
        });
    }
}
