//! The fixed words of BullMQ's data: field names, event names. A store may keep them ready-made.

/// Declares [`Known`] with the text of each word.
macro_rules! known {
    ($($name:ident = $text:literal),+ $(,)?) => {
        /// A word that BullMQ's data repeats in every job.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Known { $($name),+ }

        impl Known {
            pub const ALL: &'static [Known] = &[$(Known::$name),+];

            pub const fn text(self) -> &'static str {
                match self { $(Known::$name => $text),+ }
            }

            /// The text with a NUL behind it, for C.
            pub const fn c_text(self) -> &'static [u8] {
                match self { $(Known::$name => concat!($text, "\0").as_bytes()),+ }
            }
        }
    };
}

known! {
    Name = "name", Data = "data", Opts = "opts", Timestamp = "timestamp", Delay = "delay", Priority = "priority",
    ParentKey = "parentKey", Parent = "parent", Rjk = "rjk", Deid = "deid",
    ProcessedOn = "processedOn", AttemptsStarted = "ats", AttemptsMade = "attemptsMade", ReturnValue = "returnvalue", StackTrace = "stacktrace",
    MaxLenEvents = "opts.maxLenEvents", Paused = "paused", Concurrency = "concurrency",
    Event = "event", JobId = "jobId", Added = "added", Waiting = "waiting", Delayed = "delayed", Prev = "prev",
    WaitingChildren = "waiting-children", Removed = "removed", Cleaned = "cleaned", Count = "count",
    Duplicated = "duplicated", Deduplicated = "deduplicated", DeduplicationId = "deduplicationId",
    DeduplicatedJobId = "deduplicatedJobId", Wait = "wait", Resumed = "resumed",
    FinishedOn = "finishedOn", Jid = "jid", Pk = "pk", Pd = "pd", Pdk = "pdk",
    Zero = "0", One = "1", DefaultMaxEvents = "10000",
}

/// An argument: one of the fixed words, or bytes.
#[derive(Clone, Copy, Debug)]
pub enum Word<'a> {
    Known(Known),
    Bytes(&'a [u8]),
}

impl<'a> Word<'a> {
    pub fn bytes(self) -> &'a [u8] {
        match self {
            Self::Known(known) => known.text().as_bytes(),
            Self::Bytes(bytes) => bytes,
        }
    }
}

impl From<Known> for Word<'_> {
    fn from(known: Known) -> Self {
        Self::Known(known)
    }
}

impl<'a> From<&'a [u8]> for Word<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        Self::Bytes(bytes)
    }
}

impl<'a> From<&'a str> for Word<'a> {
    fn from(text: &'a str) -> Self {
        Self::Bytes(text.as_bytes())
    }
}

impl<'a> From<&'a Vec<u8>> for Word<'a> {
    fn from(bytes: &'a Vec<u8>) -> Self {
        Self::Bytes(bytes)
    }
}
