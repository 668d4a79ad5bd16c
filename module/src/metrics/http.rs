//! `/metrics` over HTTP: one thread of its own that serves the newest snapshot. Touches no key and never waits for the
//! main thread; the main thread never waits for it.
//!
//! Off until `bull.metrics-addr` names an address. A connection serves one request; how many there are at a time, how
//! long they last and how long a request's head may be is limited, so that slow and hostile clients cost little.

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::SockRef;
use tokio::sync::{Semaphore, oneshot};

use super::render;
use crate::redis::log::{Level, log};

/// Connections at a time; further ones wait in the kernel. The server keeps 32 descriptors beyond maxclients.
const MAX_CONNECTIONS: usize = 16;
/// For the head of a request.
const HEAD_TIME: Duration = Duration::from_secs(3);
/// For a connection as a whole.
const CONNECTION_TIME: Duration = Duration::from_secs(10);
/// Longest head of a request, bytes; hyper's least.
const MAX_HEAD: usize = 8192;
/// Where no connection can be accepted, such as for want of descriptors, the next try comes after this.
const AFTER_ERROR: Duration = Duration::from_millis(200);

/// A socket that listens, and the thread behind it.
struct Bound {
    addr: SocketAddr,
    listener: TcpListener,
    /// Dropped, it ends the thread.
    _stop: Option<oneshot::Sender<()>>,
}

struct State {
    bound: Option<Bound>,
    /// The module is loaded: a thread of it may run.
    started: bool,
}

static STATE: Mutex<State> = Mutex::new(State { bound: None, started: false });

fn state() -> MutexGuard<'static, State> {
    STATE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An address: a port on 127.0.0.1, or `<address>:<port>`; nothing for off.
fn parse(value: &str) -> Result<Option<SocketAddr>, String> {
    let value = value.trim();
    if value.is_empty() {
        return Ok(None);
    }
    let wrong = || {
        format!(
            "bull.metrics-addr '{value}': give a port, which is then served on 127.0.0.1, or an IP address and a \
                 port such as 0.0.0.0:9465 or [::1]:9465, or nothing to serve no metrics"
        )
    };
    let addr = match value.strip_prefix(':').unwrap_or(value).parse::<u16>() {
        Ok(port) => SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port),
        Err(_) => value.parse().map_err(|_| wrong())?,
    };
    if addr.port() == 0 { Err(wrong()) } else { Ok(Some(addr)) }
}

/// Serves at the address from now on, and no longer where it did before. Errors: one line; then all is as it was.
///
/// The server may ask twice for the same value.
pub fn listen(value: &str) -> Result<(), String> {
    let wanted = parse(value)?;
    let mut state = state();
    if state.bound.as_ref().map(|bound| bound.addr) == wanted {
        return Ok(());
    }
    let Some(addr) = wanted else {
        close(&mut state);
        return Ok(());
    };
    let failed = |error: io::Error| format!("bull.metrics-addr: cannot listen on {addr}: {error}");
    let listener = match TcpListener::bind(addr) {
        Ok(listener) => listener,
        // Perhaps our own socket is in the way: another address with the same port.
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            let old = state.bound.as_ref().map(|bound| bound.addr).filter(|old| old.port() == addr.port());
            let Some(old) = old else { return Err(failed(error)) };
            close(&mut state);
            TcpListener::bind(addr).map_err(|error| {
                if let Ok(listener) = TcpListener::bind(old) {
                    state.bound = Some(Bound { addr: old, listener, _stop: None });
                    state.run();
                }
                failed(error)
            })?
        }
        Err(error) => return Err(failed(error)),
    };
    close(&mut state);
    state.bound = Some(Bound { addr, listener, _stop: None });
    state.run();
    Ok(())
}

/// The module is loaded. Last in the order of load: what runs in a thread must not be unmapped.
pub fn start() {
    let mut state = state();
    state.started = true;
    state.run();
}

/// Ends the thread and frees the port.
fn close(state: &mut State) {
    if let Some(bound) = state.bound.take() {
        // A child that saves holds a copy of the socket: closing ours alone would not free the port.
        let _ = SockRef::from(&bound.listener).shutdown(Shutdown::Both);
        log(Level::Notice, &format!("bull: metrics are no longer served at {}", bound.addr));
    }
}

impl State {
    /// Starts the thread of the socket, if it has none.
    fn run(&mut self) {
        let Some(bound) = self.bound.as_mut().filter(|bound| self.started && bound._stop.is_none()) else { return };
        let (sender, stop) = oneshot::channel();
        let spawned = bound.listener.try_clone().and_then(|listener| {
            listener.set_nonblocking(true)?;
            std::thread::Builder::new().name("bull-metrics".into()).spawn(move || serve(listener, stop))
        });
        match spawned {
            Ok(_) => {
                log(Level::Notice, &format!("bull: metrics are served at http://{}/metrics", bound.addr));
                bound._stop = Some(sender);
            }
            Err(error) => log(Level::Warning, &format!("bull: metrics are not served: no thread: {error}")),
        }
    }
}

/// The thread.
fn serve(listener: TcpListener, stop: oneshot::Receiver<()>) {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build() {
        Ok(runtime) => runtime,
        Err(error) => return log(Level::Warning, &format!("bull: metrics are not served: {error}")),
    };
    runtime.block_on(async {
        match tokio::net::TcpListener::from_std(listener) {
            Ok(listener) => {
                tokio::spawn(accept(listener));
                // Ends when the sender is dropped; what still runs goes with the runtime.
                let _ = stop.await;
            }
            Err(error) => log(Level::Warning, &format!("bull: metrics are not served: {error}")),
        }
    });
}

async fn accept(listener: tokio::net::TcpListener) {
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    while let Ok(place) = room.clone().acquire_owned().await {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(AFTER_ERROR).await;
            continue;
        };
        tokio::spawn(async move {
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_TIME)
                .keep_alive(false)
                .max_buf_size(MAX_HEAD)
                .serve_connection(TokioIo::new(stream), service_fn(answer));
            // A client that breaks off or is too slow is no matter of ours.
            let _ = tokio::time::timeout(CONNECTION_TIME, connection).await;
            drop(place);
        });
    }
}

async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    Ok(respond(request.method(), request.uri().path()))
}

fn respond(method: &Method, path: &str) -> Response<Full<Bytes>> {
    let plain =
        |status, text: &'static str| page(status, "text/plain; charset=utf-8", Bytes::from_static(text.as_bytes()));
    if method != Method::GET && method != Method::HEAD {
        let mut refused = plain(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n");
        refused.headers_mut().insert(ALLOW, hyper::header::HeaderValue::from_static("GET, HEAD"));
        return refused;
    }
    match path {
        "/metrics" => page(StatusCode::OK, render::CONTENT_TYPE, render::newest()),
        "/" => plain(StatusCode::OK, "redis-bull: metrics are at /metrics\n"),
        _ => plain(StatusCode::NOT_FOUND, "nothing here; metrics are at /metrics\n"),
    }
}

fn page(status: StatusCode, kind: &'static str, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, hyper::header::HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_alone_is_loopback() {
        for (value, addr) in [
            ("", None),
            ("  ", None),
            ("9465", Some("127.0.0.1:9465")),
            (":9465", Some("127.0.0.1:9465")),
            ("0.0.0.0:9465", Some("0.0.0.0:9465")),
            ("[::1]:9465", Some("[::1]:9465")),
        ] {
            assert_eq!(parse(value), Ok(addr.map(|addr| addr.parse().expect("an address"))), "{value}");
        }
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for value in
            ["0", "65536", "-1", "localhost:9465", "127.0.0.1", "127.0.0.1:0", "::1:9465x", "http://1.2.3.4:5/"]
        {
            let text = parse(value).expect_err(value);
            assert!(text.contains(value) && !text.contains('\n'), "{text}");
        }
    }

    #[test]
    fn only_metrics_are_served() {
        for (method, path, status) in [
            (Method::GET, "/metrics", 200),
            (Method::HEAD, "/metrics", 200),
            (Method::GET, "/", 200),
            (Method::GET, "/metrics/", 404),
            (Method::GET, "/../etc/passwd", 404),
            (Method::POST, "/metrics", 405),
        ] {
            assert_eq!(respond(&method, path).status().as_u16(), status, "{method} {path}");
        }
    }
}
