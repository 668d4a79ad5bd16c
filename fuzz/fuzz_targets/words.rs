//! Words of commands: names of queues, times, sizes. A name that is taken keeps all keys of its queue where its hash tag
//! says, and a number that is taken reads as it was written.

#![no_main]

use bull::queue::keys::{QueueName, slot};
use bull::queue::units::{duration, size};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    if let Ok(queue) = QueueName::parse(input) {
        assert_eq!(queue.as_bytes(), input);
        assert!(!queue.display().contains('\n'), "two lines");
        let key = queue.key("wait");
        assert!(key.starts_with(input) && key.ends_with(b":wait"));
        if queue.hash_tag().is_some() {
            assert_eq!(slot(&key), queue.slot(), "a key in another slot than its queue");
        }
    }
    for read in [duration(input), size(input)] {
        // Digits alone are the number itself.
        if let (Some(read), Ok(text)) = (read, std::str::from_utf8(input))
            && text.bytes().all(|byte| byte.is_ascii_digit())
        {
            assert_eq!(text.parse(), Ok(read));
        }
    }
});
