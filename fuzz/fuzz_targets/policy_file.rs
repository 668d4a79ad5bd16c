//! A policy's JSON file, as somebody may put it into the folder, and the folder's upkeep around it. What is taken can be
//! written and is the same when it is read again; an error is one line.

#![no_main]

use std::fs;
use std::path::PathBuf;
use std::sync::LazyLock;

use bull::policy::files::Folder;
use libfuzzer_sys::fuzz_target;

static PLACE: LazyLock<PathBuf> = LazyLock::new(|| {
    let path = std::env::temp_dir().join(format!("bull-fuzz-{}", std::process::id()));
    fs::create_dir_all(&path).expect("a folder of ours");
    path
});

fuzz_target!(|input: &[u8]| {
    let folder = Folder::new(PLACE.clone());
    fs::write(PLACE.join("p.json"), input).expect("a file of ours");
    let found = folder.read().expect("a folder that can be read").remove(0);
    match found.record {
        Err(error) => assert!(!error.to_string().contains('\n'), "two lines: {error}"),
        Ok(record) => {
            assert!(record.settings.check().is_ok(), "taken, and out of range: {record:?}");
            assert!(!record.wasm.contains('/'), "another folder's file: {}", record.wasm);
            if let Err(error) = folder.component(&record, 1) {
                assert!(!error.to_string().contains('\n'), "two lines: {error}");
            }
            let digest = "0011223344556677";
            let written = folder.put("p", &record.settings, digest, b"\0asm").expect("a folder that can be written");
            let again = folder.read().expect("a folder").remove(0).record.expect("what was written can be read");
            assert_eq!((again.settings, again.wasm), (record.settings, written.wasm));
            folder.tidy().expect("a folder that can be tidied");
            folder.remove("p").expect("a policy that is there");
        }
    }
    for entry in fs::read_dir(&*PLACE).expect("a folder of ours") {
        let _ = fs::remove_file(entry.expect("a file").path());
    }
});
