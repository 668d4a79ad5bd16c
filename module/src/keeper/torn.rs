//! An AOF that was cut within a MULTI, by a power cut or by a kill in the middle of a write.
//!
//! Redis and Valkey before 9.1 cut such a file off behind the last whole command and leave the MULTI open: what is added
//! behind it is lost at the next start, or, where another MULTI ends, half of the old one comes back with it
//! (valkey-io/valkey#4342). So the end of the file is looked at when it has been loaded, and where a MULTI is open the
//! server is asked to write the file anew, at once. Never changes a file itself, and never asks a server without an AOF.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use memchr::memmem::rfind;

use crate::queue::fields::Word;
use crate::redis::Context;
use crate::redis::call::Effect;
use crate::redis::events::Change;
use crate::redis::log::{Level, log};

const MULTI: &[u8] = b"*1\r\n$5\r\nMULTI\r\n";
const EXEC: &[u8] = b"*1\r\n$4\r\nEXEC\r\n";
/// The end of the file is read backwards by so many bytes, until a MULTI or an EXEC is met.
const CHUNK: u64 = 256 << 10;
/// No further back than this: some 30 ms, once, after a load that took far longer.
const FURTHEST: u64 = 64 << 20;

/// The list of the AOF's files.
static MANIFEST: OnceLock<PathBuf> = OnceLock::new();
static WANTED: AtomicBool = AtomicBool::new(false);

/// Learns where the AOF is. Only while the module loads.
pub fn open(context: Context) {
    let config = |name: &[u8]| {
        let words = [Word::Bytes(b"GET"), Word::Bytes(name)];
        let value = context.call(c"CONFIG", Effect::Local, &words).ok()?.texts().pop()?;
        String::from_utf8(value).ok()
    };
    if let (Some(folder), Some(file)) = (config(b"appenddirname"), config(b"appendfilename")) {
        let _ = MANIFEST.set(Path::new(&folder).join(format!("{file}.manifest")));
    }
}

pub fn on_change(change: Change) {
    if change == Change::Loaded
        && let Some(manifest) = MANIFEST.get()
        && ends_in_multi(manifest).unwrap_or(false)
    {
        WANTED.store(true, Ordering::Relaxed);
    }
}

/// Asks for the rewrite, until the server begins with it.
pub fn slice(context: Context) {
    if !WANTED.load(Ordering::Relaxed) || context.is_loading() {
        return;
    }
    // The file is another time's where the server does not use it.
    if context.server_number(c"persistence", c"aof_enabled") != Some(1) {
        WANTED.store(false, Ordering::Relaxed);
        return;
    }
    if context.call(c"BGREWRITEAOF", Effect::Local, &[]).is_ok() {
        WANTED.store(false, Ordering::Relaxed);
        log(
            Level::Warning,
            "bull: the AOF ended within a MULTI and the server left that open; the file is written anew, since what is \
             added to it would be lost at the next start",
        );
    }
}

/// Whether the last file that the manifest names ends within a MULTI.
///
/// Goes by the last MULTI and EXEC in it: data that holds the text of one can cause a rewrite that was not needed.
fn ends_in_multi(manifest: &Path) -> io::Result<bool> {
    let text = std::fs::read_to_string(manifest)?;
    // file appendonly.aof.1.incr.aof seq 1 type i, and from Redis 8 on: startoffset 0
    let increment = |line: &str| -> Option<String> {
        let (name, rest) = line.strip_prefix("file ")?.split_once(" seq ")?;
        let mut words = rest.split_whitespace().skip_while(|word| *word != "type");
        (words.nth(1) == Some("i")).then(|| name.trim_matches('"').to_owned())
    };
    let Some(name) = text.lines().filter_map(increment).next_back() else {
        return Ok(false);
    };
    let file = File::open(manifest.with_file_name(name))?;
    let length = file.metadata()?.len();
    let (mut to, end) = (length, length.saturating_sub(FURTHEST));
    let mut bytes = Vec::new();
    while to > end {
        let from = to.saturating_sub(CHUNK).max(end);
        // A word that begins in this chunk may end in the one behind it.
        let until = (to + MULTI.len() as u64 - 1).min(length);
        bytes.resize(usize::try_from(until - from).unwrap_or(0), 0);
        file.read_exact_at(&mut bytes, from)?;
        match (rfind(&bytes, MULTI), rfind(&bytes, EXEC)) {
            (None, None) => to = from,
            (multi, exec) => return Ok(multi > exec),
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn ends_as_named(bytes: &[u8], more: &str) -> io::Result<bool> {
        static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let name = format!("bull-torn-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let folder = std::env::temp_dir().join(name);
        fs::create_dir_all(&folder)?;
        let manifest = folder.join("a.manifest");
        fs::write(
            &manifest,
            format!(
                "file a.1.base.rdb seq 1 type b\nfile a.1.incr.aof seq 1 type i{more}\nfile a.2.incr.aof seq 2 type i{more}\n"
            ),
        )?;
        fs::write(folder.join("a.2.incr.aof"), bytes)?;
        let answer = ends_in_multi(&manifest);
        fs::remove_dir_all(folder)?;
        answer
    }

    fn ends(bytes: &[u8]) -> io::Result<bool> {
        ends_as_named(bytes, "")
    }

    #[test]
    fn the_last_file_is_found_by_its_type_whatever_is_behind_it() {
        for more in ["", " startoffset 0", " startoffset 12 endoffset 99"] {
            assert!(ends_as_named(MULTI, more).unwrap(), "{more}");
        }
    }

    #[test]
    fn an_open_multi_is_seen_however_long_it_is() {
        let set = [&b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$100000\r\n"[..], &[b'x'; 100_000], b"\r\n"].concat();
        for (parts, open) in [
            (vec![], false),
            (vec![&set[..]], false),
            (vec![MULTI, &set, EXEC], false),
            (vec![MULTI, &set, EXEC, &set], false),
            (vec![MULTI], true),
            (vec![MULTI, &set], true),
            (vec![MULTI, &set, EXEC, MULTI, &set, &set], true),
        ] {
            assert_eq!(ends(&parts.concat()).unwrap(), open, "{} parts", parts.len());
        }
    }

    #[test]
    fn words_across_two_chunks_are_seen() {
        let behind = usize::try_from(CHUNK).unwrap();
        for cut in 0..=MULTI.len() {
            let tail = vec![b'x'; behind - cut];
            assert!(ends(&[EXEC, MULTI, &tail].concat()).unwrap(), "{cut} bytes of MULTI in the last chunk");
            assert!(!ends(&[MULTI, EXEC, &tail].concat()).unwrap(), "{cut} bytes of EXEC in the last chunk");
        }
    }

    #[test]
    fn a_file_without_a_multi_is_read_to_its_bound_alone() {
        assert!(!ends(&vec![b'x'; 3 * usize::try_from(CHUNK).unwrap() + 5]).unwrap());
        let far = vec![b'x'; usize::try_from(FURTHEST).unwrap() + 1];
        assert!(!ends(&[MULTI, &far].concat()).unwrap());
    }

    #[test]
    fn a_folder_without_an_aof_has_none_open() {
        assert!(!ends_in_multi(Path::new("/nowhere/a.manifest")).unwrap_or(false));
    }
}
