//! An AOF played again, transaction by transaction, on a stock server: what a queue held at each moment, exactly.

use std::fs;
use std::io::{Cursor, Seek};
use std::path::Path;

use crate::client::{Client, Reply, read_reply};

/// Jobs that stand ready for a worker: `wait` without the markers that BullMQ 4 keeps there, `paused`, and `prioritized`.
const COUNT: &str = "local n = redis.call('ZCARD', KEYS[1]) \
    for i = 2, 3 do for _, id in ipairs(redis.call('LRANGE', KEYS[i], 0, -1)) do \
    if string.sub(id, 1, 2) ~= '0:' then n = n + 1 end end end return n";
const STATES: [&str; 3] = ["prioritized", "wait", "paused"];

/// What was seen of a queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Peak {
    /// Most jobs ready at one moment.
    pub most: i64,
    /// Moments looked at: those after which one of the three could have changed.
    pub moments: usize,
}

/// Commands of the incremental files of an AOF, in order. A last one that is cut short is left out, as a server would.
pub fn commands(folder: &Path) -> Vec<Vec<Vec<u8>>> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    files.retain(|path| path.to_string_lossy().ends_with(".incr.aof"));
    // appendonly.aof.<n>.incr.aof
    files.sort_by_key(|path| {
        let name = path.file_name().expect("a file").to_string_lossy().into_owned();
        name.split('.').rev().nth(2).and_then(|n| n.parse::<u64>().ok()).expect("a number")
    });
    assert!(!files.is_empty(), "no AOF in {}", folder.display());
    let mut all = Vec::new();
    for file in files {
        let bytes = fs::read(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let mut cursor = Cursor::new(bytes.as_slice());
        while cursor.stream_position().expect("a cursor") < bytes.len() as u64 {
            let Ok(Reply::Array(words)) = read_reply(&mut cursor) else { break };
            all.push(words.iter().map(|word| word.bytes().to_vec()).collect());
        }
    }
    all
}

/// Plays the commands on an empty stock server and counts what is ready in each of the queues, by their qualified names,
/// after each transaction and each single command that names one of their lists.
///
/// # Panics
/// Where the server refuses a command.
pub fn peaks(client: &mut Client, commands: &[Vec<Vec<u8>>], queues: &[String]) -> Vec<Peak> {
    let keys: Vec<Vec<String>> =
        queues.iter().map(|queue| STATES.iter().map(|state| format!("{queue}:{state}")).collect()).collect();
    let mut peaks = vec![Peak::default(); queues.len()];
    let mut touched = vec![false; queues.len()];
    let mut in_multi = false;
    let mut batch: Vec<Vec<Vec<u8>>> = Vec::new();
    let mut looks: Vec<Option<usize>> = Vec::new();
    for command in commands {
        for (queue, keys) in keys.iter().enumerate() {
            touched[queue] |= command.iter().any(|word| keys.iter().any(|key| word == key.as_bytes()));
        }
        let name = command[0].to_ascii_lowercase();
        in_multi = (in_multi || name == b"multi") && name != b"exec";
        batch.push(command.clone());
        looks.push(None);
        for (queue, touched) in touched.iter_mut().enumerate().filter(|(_, touched)| !in_multi && **touched) {
            *touched = false;
            let mut look: Vec<Vec<u8>> = ["EVAL", COUNT, "3"].map(|word| word.as_bytes().to_vec()).to_vec();
            look.extend(keys[queue].iter().map(|key| key.clone().into_bytes()));
            batch.push(look);
            looks.push(Some(queue));
        }
        if batch.len() >= 500 && !in_multi {
            play(client, &mut batch, &mut looks, &mut peaks);
        }
    }
    play(client, &mut batch, &mut looks, &mut peaks);
    peaks
}

fn play(client: &mut Client, batch: &mut Vec<Vec<Vec<u8>>>, looks: &mut Vec<Option<usize>>, peaks: &mut [Peak]) {
    let replies = client.pipeline(batch).expect("the stock server answers");
    for ((reply, look), command) in replies.iter().zip(looks.iter()).zip(batch.iter()) {
        assert!(reply.error().is_none(), "{:?} of the AOF: {reply:?}", command[0].escape_ascii().to_string());
        if let Some(queue) = look {
            peaks[*queue].most = peaks[*queue].most.max(reply.int());
            peaks[*queue].moments += 1;
        }
    }
    batch.clear();
    looks.clear();
}
