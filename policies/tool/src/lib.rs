//! What other tools of the repository share with the author's kit: reaching servers.

pub mod node;
