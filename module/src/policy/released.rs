//! The worlds that were released, word by word: a policy that was built for one must load on every later version of the
//! module, so its folder under `wit/` is never edited. Comments may be.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use sha2::{Digest, Sha256};

/// Folders of `wit/`, each with the SHA-256 of its words. A new world is a new folder and a new line.
const RELEASED: [(&str, &str); 1] = [("1.0.0", "70a521720dfcdb321cc8768229612d96f3cc718d6bb9efca46b33965923f8e6f")];

/// The text without comments, its words one space apart.
fn words(text: &str) -> String {
    let bare: Vec<&str> = text.lines().map(|line| line.split("//").next().unwrap_or_default()).collect();
    bare.join("\n").split_whitespace().collect::<Vec<_>>().join(" ")
}

fn digest(text: &str) -> String {
    Sha256::digest(words(text)).iter().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

#[test]
fn released_worlds_are_what_they_were() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../wit");
    let found: BTreeMap<String, String> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|version| {
            let version = version.unwrap().path();
            let text = std::fs::read_to_string(version.join("policy.wit")).unwrap();
            assert_eq!(std::fs::read_dir(&version).unwrap().count(), 1, "a world is one file: {}", version.display());
            (version.file_name().unwrap().to_string_lossy().into_owned(), digest(&text))
        })
        .collect();
    let released = RELEASED.map(|(version, digest)| (version.to_owned(), digest.to_owned()));
    assert_eq!(
        found,
        BTreeMap::from(released),
        "a released world changed, or a folder is not listed. Policies that were built for it would no longer load: undo \
         the change, or make a folder of the next version"
    );
}

#[test]
fn comments_and_spaces_may_change_and_words_may_not() {
    let text = "/// What.\nrecord job { /// Cut.\n  name: string, }";
    assert_eq!(words(text), "record job { name: string, }");
    assert_eq!(digest(text), digest("record job {\n  name: string,\n}"));
    assert_ne!(digest(text), digest("record job { name: string, bytes: u64, }"));
}
