//! `new`: a policy crate that builds and passes its tests as it is.
//!
//! The crate is a workspace of its own and lies outside the checkout; it reaches the SDK by a path. It starts with the
//! checkout's Cargo.lock, so that it builds with the versions that the policies which ship are built with.

use std::fs;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result, bail};

const FILES: [(&str, &str); 4] = [
    ("Cargo.toml", include_str!("../template/Cargo.toml.txt")),
    ("src/lib.rs", include_str!("../template/lib.rs.txt")),
    ("config.schema.json", include_str!("../template/config.schema.json")),
    ("tests/server.txt", include_str!("../template/server.txt")),
];

/// Makes the crate in a folder that does not exist yet, or is empty.
pub fn run(root: &Path, folder: &Path) -> Result<()> {
    let name = folder.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    if !is_name(name) {
        bail!("'{name}' is no name for a policy: up to 64 of a-z 0-9 and -, with a letter first");
    }
    if fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some()) || folder.is_file() {
        bail!("{} exists already", folder.display());
    }
    let parent = folder.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let parent = parent.canonicalize().with_context(|| format!("{} is no folder", parent.display()))?;
    let (root, folder) = (root.canonicalize()?, parent.join(name));
    if folder.starts_with(&root) {
        bail!("{} lies in the checkout, whose workspace it would disturb; take a folder outside", folder.display());
    }
    let sdk = relative(&folder, &root.join("policies/sdk"));
    let sdk = sdk.to_str().context("the path to the SDK is not UTF-8")?;
    for (file, text) in FILES {
        write(&folder.join(file), &text.replace("{{name}}", name).replace("{{sdk}}", sdk))?;
    }
    write(&folder.join(".gitignore"), "/target\n/*.wasm\n")?;
    fs::copy(root.join("Cargo.lock"), folder.join("Cargo.lock")).context("cannot copy Cargo.lock")?;
    println!("{}: the crate {name}", folder.display());
    println!("next: scripts/policy test {}", folder.display());
    Ok(())
}

fn write(file: &Path, text: &str) -> Result<()> {
    fs::create_dir_all(file.parent().expect("a file in a folder"))
        .and_then(|()| fs::write(file, text))
        .with_context(|| format!("cannot write {}", file.display()))
}

/// A name that a crate and a policy may both have.
fn is_name(name: &str) -> bool {
    name.len() <= 64
        && name.starts_with(|first: char| first.is_ascii_lowercase())
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}

/// The way from one absolute folder to another.
fn relative(from: &Path, to: &Path) -> PathBuf {
    let (from, to): (Vec<Component>, Vec<Component>) = (from.components().collect(), to.components().collect());
    let shared = from.iter().zip(&to).take_while(|(a, b)| a == b).count();
    let up = from[shared..].iter().map(|_| Component::ParentDir);
    up.chain(to[shared..].iter().copied()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_crates_and_policies() {
        for good in ["a", "my-policy", "p2", &"a".repeat(64)] {
            assert!(is_name(good), "{good}");
        }
        for bad in ["", "My", "2p", "-p", "my_policy", "my.policy", &"a".repeat(65)] {
            assert!(!is_name(bad), "{bad}");
        }
    }

    #[test]
    fn the_way_goes_up_and_down() {
        let way = |from: &str, to: &str| relative(Path::new(from), Path::new(to)).display().to_string();
        assert_eq!(way("/home/me/my-policy", "/home/me/redis-bull/policies/sdk"), "../redis-bull/policies/sdk");
        assert_eq!(way("/tmp/x", "/opt/bull/policies/sdk"), "../../opt/bull/policies/sdk");
    }

    #[test]
    fn a_place_in_the_checkout_or_one_that_is_taken_is_refused() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let refused = |folder: PathBuf| run(&root, &folder).expect_err("refused").to_string();
        assert!(refused(root.join("policies/mine")).contains("lies in the checkout"));
        assert!(refused(root.join("policies/sdk")).contains("exists already"));
        assert!(refused(PathBuf::from("/tmp/Mine")).starts_with("'Mine' is no name"));
        assert!(refused(PathBuf::from("/does/not/exist/mine")).starts_with("/does/not/exist is no folder"));
    }
}
