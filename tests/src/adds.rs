//! Add scripts as BullMQ's clients send them, made by hand: the shape of keys and arguments is BullMQ's, the script is
//! whatever a test needs.

/// What stands in ARGV of an add.
#[derive(Clone, Debug)]
pub struct Add {
    base: String,
    keys: &'static [&'static str],
    parent: Option<String>,
    scheduler: Option<String>,
    options: Vec<(&'static str, u32)>,
    id: String,
    name: String,
    data: String,
}

/// KEYS of addStandardJob, BullMQ 5.56 and later.
pub const STANDARD: &[&str] = &["wait", "paused", "meta", "id", "completed", "delayed", "active", "events", "marker"];
/// KEYS of addDelayedJob, BullMQ 5 and 6.
pub const DELAYED: &[&str] = &["marker", "meta", "id", "delayed", "completed", "events"];
/// KEYS of addParentJob, BullMQ 5.62 and later.
pub const PARENT: &[&str] = &["meta", "id", "delayed", "waiting-children", "completed", "events"];

/// An add that leaves its job's id in `wait` and its data in a hash, as far as these tests look.
pub const SCRIPT: &str = "local id = redis.call('INCR', KEYS[4]) \
    redis.call('HSET', string.sub(KEYS[1], 1, -5) .. id, 'data', ARGV[2]) \
    redis.call('LPUSH', KEYS[1], id) return id .. ''";

impl Add {
    /// A job for the queue with this qualified name, as a script with these keys gets it.
    pub fn new(queue: &str, keys: &'static [&'static str]) -> Add {
        Add {
            base: format!("{queue}:"),
            keys,
            parent: None,
            scheduler: None,
            options: vec![],
            id: String::new(),
            name: "job".into(),
            data: "{}".into(),
        }
    }

    /// A standard job.
    pub fn standard(queue: &str) -> Add {
        Add::new(queue, STANDARD)
    }

    /// An id of the producer's choice.
    pub fn id(mut self, id: &str) -> Add {
        self.id = id.into();
        self
    }

    /// The key of its parent.
    pub fn parent(mut self, key: &str) -> Add {
        self.parent = Some(key.into());
        self
    }

    /// The id of its scheduler.
    pub fn scheduler(mut self, id: &str) -> Add {
        self.scheduler = Some(id.into());
        self
    }

    /// An option that is a number.
    pub fn option(mut self, name: &'static str, value: u32) -> Add {
        self.options.push((name, value));
        self
    }

    pub fn data(mut self, data: &str) -> Add {
        self.data = data.into();
        self
    }

    /// The command, by the script's text.
    pub fn eval(&self, script: &str) -> Vec<Vec<u8>> {
        self.command("EVAL", script)
    }

    /// The command, by the script's digest.
    pub fn evalsha(&self, digest: &str) -> Vec<Vec<u8>> {
        self.command("EVALSHA", digest)
    }

    /// A command of EVAL's form.
    pub fn command(&self, command: &str, script: &str) -> Vec<Vec<u8>> {
        let mut words = vec![command.into(), script.into(), self.keys.len().to_string().into_bytes()];
        words.extend(self.keys.iter().map(|suffix| format!("{}{suffix}", self.base).into_bytes()));
        words.extend([self.array(), self.data.clone().into_bytes(), self.map()]);
        words
    }

    fn array(&self) -> Vec<u8> {
        let mut out = vec![0x9a];
        out.extend(text(&self.base));
        out.extend(text(&self.id));
        out.extend(text(&self.name));
        out.push(0xcb);
        out.extend(1_795_000_000_000_f64.to_be_bytes());
        let dependencies = self.parent.as_ref().map(|parent| format!("{parent}:dependencies"));
        for field in [&self.parent, &dependencies, &None, &self.scheduler, &None, &None] {
            out.extend(field.as_deref().map_or(vec![0xc0], text));
        }
        out
    }

    fn map(&self) -> Vec<u8> {
        let mut out = vec![0x80 | u8::try_from(self.options.len()).expect("a few options")];
        for (name, value) in &self.options {
            // `repeat.count` stands one map deeper.
            if let Some(inner) = name.strip_prefix("repeat.") {
                out.extend(text("repeat"));
                out.push(0x81);
                out.extend(text(inner));
            } else {
                out.extend(text(name));
            }
            out.push(0xce);
            out.extend(value.to_be_bytes());
        }
        out
    }
}

fn text(value: &str) -> Vec<u8> {
    let length = u16::try_from(value.len()).expect("a short text");
    [&[0xda], &length.to_be_bytes()[..], value.as_bytes()].concat()
}
