//! A panic in a handler is an error reply. Needs target/fault/libbull.so, which `scripts/build --fault` makes.

use std::path::Path;

use bull_tests::client::Reply;
use bull_tests::server::Server;

#[test]
fn a_panic_is_an_error_reply_and_the_server_lives() {
    let module = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/fault/libbull.so");
    assert!(module.exists(), "target/fault/libbull.so is missing: run scripts/build --fault");
    let line = format!("loadmodule {}", module.canonicalize().expect("it exists").display());
    let mut server = Server::builder().with_module(false).config(line).start();
    let mut client = server.client();
    for _ in 0..3 {
        let reply = client.cmd(&["BULL.PANIC"]);
        assert!(reply.error().is_some_and(|text| text.starts_with("ERR internal error")), "{reply:?}");
    }
    server.assert_alive();
    let info = client.cmd(&["INFO", "bull"]).text();
    assert!(info.contains("bull_panics:3"), "{info}");
    assert!(matches!(client.cmd(&["BULL.ADD", "bull:q", "n", "{}"]), Reply::Bulk(_)));
    assert!(server.log().contains("internal error in BULL.PANIC"), "{}", server.log());
}
