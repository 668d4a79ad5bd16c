//! The words of an EVALSHA as a client may send them: recognised by shape, read from its msgpack. Whatever it is, reading
//! ends, and a job that is read names the queue of the script's own keys.

#![no_main]

use bull::queue::script::read::read;
use bull::queue::script::shape::{COUNT, numbered, queue_name, recognise};
use libfuzzer_sys::fuzz_target;

/// Keys of BullMQ's add scripts, one list a line.
const KEYS: &str = "\
meta id completed events
meta id delayed completed events
meta id delayed waiting-children completed events
marker meta id delayed completed events
wait paused meta id completed events
marker meta id delayed events repeat
wait paused meta id completed events marker
marker meta id prioritized completed events pc
wait paused meta id completed active events marker
wait paused meta id completed delayed active events marker
marker meta id prioritized delayed completed active events pc
wait paused meta id delayed prioritized completed events pc
repeat delayed wait paused meta prioritized marker id events pc
repeat delayed wait paused meta prioritized marker id events pc active";

fuzz_target!(|input: &[u8]| {
    // The first byte chooses the keys, or none of them; the rest is cut into words at 0x1e.
    let Some((keys, rest)) = input.split_first() else { return };
    let keys: Vec<_> = KEYS.lines().nth(usize::from(*keys) % 16).unwrap_or_default().split(' ').collect();
    let mut words: Vec<Vec<u8>> = vec![b"evalsha".to_vec(), vec![b'a'; 40], keys.len().to_string().into_bytes()];
    words.extend(keys.iter().map(|suffix| format!("bull:q:{suffix}").into_bytes()));
    words.extend(rest.split(|byte| *byte == 0x1e).map(<[u8]>::to_vec));
    let word = |at: usize| words.get(at).map_or(&[][..], Vec::as_slice);
    // Another module may change a command behind the filter, so its shape may not be the one that was recognised.
    for shape in (0..COUNT).filter_map(numbered) {
        let _ = read(shape, word);
    }
    let Some(shape) = recognise(words.len(), word).and_then(numbered) else { return };
    let queue = queue_name(shape, word).expect("a shape has a queue");
    if let Some(job) = read(shape, word) {
        assert_eq!(job.queue, queue, "a job of another queue than the keys'");
    }
});
