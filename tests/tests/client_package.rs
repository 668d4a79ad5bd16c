//! `deploy/client`, the npm package for BullMQ users: built as its users build it, and its own tests against a server of
//! this harness and the cluster of `scripts/cluster`. Here are only the server and what a Node process cannot do with it.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::sync::OnceLock;
use std::thread;

use bull_tests::clients::{install_in, output};
use bull_tests::loopback::Loopback;
use bull_tests::{Server, engine, workspace};

const FOLDER: &str = "deploy/client";

/// Installs and builds the package, once.
fn build() {
    static DONE: OnceLock<()> = OnceLock::new();
    DONE.get_or_init(|| {
        install_in(FOLDER);
        let mut command = Command::new("npm");
        command.args(["run", "--silent", "build"]).current_dir(workspace().join(FOLDER));
        let (done, text) = output(command);
        assert!(done.status.success(), "{FOLDER} does not build:\n{text}");
    });
}

/// Runs test files of the package; the failure's text is what they say.
fn run(files: &[&str], variables: &[(&str, String)]) {
    build();
    // What `npm ci` and the scripts of the tests of `tests/bullmq` need, which these use.
    bull_tests::clients::install();
    let mut command = Command::new("node");
    command
        .args(["--test", "--test-reporter=spec", "--test-timeout=120000", "--test-force-exit"])
        .args(files.iter().map(|file| format!("test/{file}")));
    command.current_dir(workspace().join(FOLDER)).envs(variables.iter().map(|(name, value)| (*name, value)));
    let (done, text) = output(command);
    assert!(done.status.success(), "{text}");
    println!("{text}");
}

/// Does what a connection asks, one a line: `kill`, `start`. Ends with the line `end`.
fn serve(listener: TcpListener, server: &mut Server) {
    for stream in listener.incoming() {
        let mut stream = stream.expect("a connection");
        let mut word = String::new();
        BufReader::new(&stream).read_line(&mut word).expect("a line");
        match word.trim() {
            "kill" => server.kill9(),
            "start" => server.start_again(),
            "end" => return,
            other => panic!("the tests of the package ask for '{other}'"),
        }
        stream.write_all(b"done\n").expect("an answer");
    }
}

#[test]
fn the_package_keeps_its_word_on_one_server() {
    let wasm = workspace().join("target/policies/payload_cap.wasm");
    assert!(wasm.exists(), "{} is missing: run scripts/build-policies", wasm.display());
    let mut server = Server::builder().plain().start();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a loopback port");
    let control = listener.local_addr().expect("an address").port();
    let variables =
        [("BULL_NODES", format!("127.0.0.1:{}", server.port())), ("BULL_TEST_CONTROL", control.to_string())];
    thread::scope(|scope| {
        let tests = scope.spawn(move || {
            let result = std::panic::catch_unwind(|| run(&["definitions.test.mjs", "server.test.mjs"], &variables));
            TcpStream::connect(("127.0.0.1", control))
                .and_then(|mut end| end.write_all(b"end\n"))
                .expect("the control");
            result
        });
        serve(listener, &mut server);
        if let Err(panic) = tests.join().expect("a result") {
            std::panic::resume_unwind(panic);
        }
    });
    server.assert_alive();
}

/// With users and TLS, which the servers of the wheels are built without.
#[test]
fn the_package_keeps_its_word_in_a_cluster() {
    if engine::chosen() != engine::DEFAULT {
        return;
    }
    build();
    let cluster = Loopback::up(&["--acl", "--tls"]);
    let nodes = cluster.variable("BULL_NODES").expect("the file of up").trim().to_owned();
    run(&["cluster.test.mjs"], &[("BULL_NODES", nodes), ("BULL_TEST_ENV", cluster.env())]);
}
