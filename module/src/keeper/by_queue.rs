//! Something kept for each of many queues, found without making a key of the database and the name. Knows no limit of its own
//! and never reads the keyspace.

use std::collections::HashMap;

use crate::queue::keys::QueueName;

pub struct ByQueue<T> {
    /// Most nodes use one database.
    databases: Vec<(i32, HashMap<QueueName, T>)>,
    count: usize,
}

impl<T> ByQueue<T> {
    pub const fn new() -> Self {
        Self { databases: Vec::new(), count: 0 }
    }

    pub const fn len(&self) -> usize {
        self.count
    }

    fn database(&self, db: i32) -> Option<usize> {
        self.databases.iter().position(|(of, _)| *of == db)
    }

    pub fn get(&self, db: i32, queue: &QueueName) -> Option<&T> {
        self.databases[self.database(db)?].1.get(queue)
    }

    pub fn get_mut(&mut self, db: i32, queue: &QueueName) -> Option<&mut T> {
        let at = self.database(db)?;
        self.databases[at].1.get_mut(queue)
    }

    /// Puts it in the place of what was there before.
    pub fn insert(&mut self, db: i32, queue: QueueName, value: T) -> &mut T {
        let at = self.database(db).unwrap_or_else(|| {
            self.databases.push((db, HashMap::new()));
            self.databases.len() - 1
        });
        let entry = self.databases[at].1.entry(queue);
        self.count += usize::from(matches!(entry, std::collections::hash_map::Entry::Vacant(_)));
        entry.insert_entry(value).into_mut()
    }

    pub fn remove(&mut self, db: i32, queue: &QueueName) -> Option<T> {
        let at = self.database(db)?;
        let gone = self.databases[at].1.remove(queue)?;
        self.count -= 1;
        Some(gone)
    }

    pub fn clear(&mut self) {
        *self = Self::new();
    }

    pub fn clear_database(&mut self, db: i32) {
        self.databases.retain(|(of, _)| *of != db);
        self.count = self.databases.iter().map(|(_, queues)| queues.len()).sum();
    }
}

impl<T> Default for ByQueue<T> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn databases_are_apart_and_the_count_is_right() {
        let name = |text: &str| QueueName::parse(text.as_bytes()).expect("a name");
        let (one, two) = (name("bull:one"), name("bull:two"));
        let mut kept = ByQueue::new();
        assert_eq!((kept.get(0, &one), kept.len()), (None, 0));
        *kept.insert(0, one.clone(), 1) += 1;
        kept.insert(3, one.clone(), 5);
        kept.insert(0, two.clone(), 7);
        kept.insert(0, two.clone(), 8);
        assert_eq!(
            (kept.get(0, &one), kept.get(3, &one), kept.get(0, &two), kept.len()),
            (Some(&2), Some(&5), Some(&8), 3)
        );
        assert_eq!(kept.remove(0, &two), Some(8));
        assert_eq!((kept.remove(0, &two), kept.len()), (None, 2));
        kept.clear_database(0);
        assert_eq!((kept.get(0, &one), kept.get(3, &one), kept.len()), (None, Some(&5), 1));
        *kept.get_mut(3, &one).expect("it is there") += 1;
        assert_eq!(kept.get(3, &one), Some(&6));
        kept.clear();
        assert_eq!((kept.get(3, &one), kept.len()), (None, 0));
    }
}
