//! A policy that wishes for the same actions at each tick, in the memory layout of the component model.

use crate::guests::Guest;

/// Where the list of actions lies, below the heap of [`Guest`].
const LIST: u32 = 12 * 1024;
/// Bytes of an action: its case, and the longest payload, a trim.
const ACTION: u32 = 8 + 88;

/// An action of `wit/1.0.0`.
#[derive(Clone, Debug)]
pub enum Wish {
    Notice {
        queue: String,
        text: String,
    },
    /// completed-ms, failed-ms, keep-completed, keep-failed, max-bytes.
    Trim {
        queue: String,
        criteria: [Option<u64>; 5],
    },
    TrimEvents {
        queue: String,
        keep: u64,
    },
    Pause(String),
    Resume(String),
    Emergency(u8),
}

/// Bytes under construction: the list, and the strings behind it.
struct Layout {
    list: Vec<u8>,
    strings: Vec<u8>,
    strings_at: u32,
}

impl Layout {
    fn string(&mut self, text: &str) -> [u8; 8] {
        let at = self.strings_at + u32::try_from(self.strings.len()).expect("small");
        self.strings.extend_from_slice(text.as_bytes());
        let length = u32::try_from(text.len()).expect("small");
        [at.to_le_bytes(), length.to_le_bytes()].concat().try_into().expect("two words")
    }

    fn add(&mut self, wish: &Wish) {
        let (case, payload) = match wish {
            Wish::Notice { queue, text } => (0, [self.string(queue), self.string(text)].concat()),
            Wish::Trim { queue, criteria } => {
                let mut payload = self.string(queue).to_vec();
                for criterion in criteria {
                    payload.extend(u64::from(criterion.is_some()).to_le_bytes());
                    payload.extend(criterion.unwrap_or(0).to_le_bytes());
                }
                (1, payload)
            }
            Wish::TrimEvents { queue, keep } => (2, [self.string(queue), keep.to_le_bytes()].concat()),
            Wish::Pause(queue) => (3, self.string(queue).to_vec()),
            Wish::Resume(queue) => (4, self.string(queue).to_vec()),
            Wish::Emergency(percent) => (5, vec![*percent]),
        };
        let mut action = vec![case, 0, 0, 0, 0, 0, 0, 0];
        action.extend(payload);
        action.resize(ACTION as usize, 0);
        self.list.extend(action);
    }
}

/// Admits all jobs, and wishes for these at each tick.
pub fn wishing(wishes: &[Wish]) -> Guest {
    let count = u32::try_from(wishes.len()).expect("few");
    // The header, the list, the strings.
    let list_at = LIST + 8;
    let mut layout = Layout { list: vec![], strings: vec![], strings_at: list_at + count * ACTION };
    wishes.iter().for_each(|wish| layout.add(wish));
    let bytes = [&list_at.to_le_bytes()[..], &count.to_le_bytes(), &layout.list, &layout.strings].concat();
    assert!(bytes.len() < 20 * 1024, "wishes that fit below the heap");
    let text: String = bytes.iter().map(|byte| format!("\\{byte:02x}")).collect();
    Guest::new("wishing").extra(&format!("(data (i32.const {LIST}) \"{text}\")")).tick(&format!("(i32.const {LIST})"))
}
