//! Times to live that slide: a record that is asked for in the second half of its time is given its time once more.
//!
//! A reader only says so; the keeper writes the record once more in its next round, so a hit costs no write, and a record that
//! is asked for all the time is written once in half its time to live.

use std::sync::PoisonError;

use serde::Serialize;

use super::{
    Store, Writer,
    class::Class,
    clock::milliseconds,
    reading::{Asked, read_record},
    record::{Content, Record},
    trouble::Trouble,
    vector::{Hit, Key, Prefix, TTL_MAX},
    writing::PutError,
};

/// Wishes that wait for the keeper; more are forgotten, and uttered again with the next hit.
const WISHES_MAX: usize = 4096;

/// What a time to live means.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum TtlMode {
    /// A promise: a record is gone at its end, whoever asked for it.
    #[default]
    Absolute,
    /// Counted from the last time it was asked for, give or take half of it; ten years in all at most.
    Sliding,
}

/// Whose time is to be prolonged.
pub(super) type Wishes = Vec<(Box<str>, Key)>;

impl Store {
    /// Notes a hit that is to stay.
    pub(super) fn wants_more_time(&self, namespace: &str, key: &Key, hit: &Hit) {
        if self.options.ttl_mode == TtlMode::Absolute || hit.remaining > hit.ttl / 2 {
            return;
        }
        let mut wishes = self.wishes.lock().unwrap_or_else(PoisonError::into_inner);
        if wishes.len() < WISHES_MAX {
            wishes.push((namespace.into(), *key));
        }
    }

    /// Gives all that was asked for its time once more.
    pub(super) fn give_more_time(&self, writer: &mut Writer) -> Result<(), Trouble> {
        let mut wishes = std::mem::take(&mut *self.wishes.lock().unwrap_or_else(PoisonError::into_inner));
        wishes.sort_unstable();
        wishes.dedup();
        for (namespace, key) in wishes {
            match self.prolong(writer, &namespace, &key) {
                Ok(()) | Err(PutError::OverBudget(_) | PutError::Invalid(_) | PutError::Stale { .. }) => {}
                Err(PutError::Disk(trouble)) => return Err(trouble),
            }
        }
        Ok(())
    }

    fn prolong(&self, writer: &mut Writer, namespace: &str, key: &Key) -> Result<(), PutError> {
        let prefix = Prefix::of(key);
        let Some((location, segment)) = self.locate(namespace, &prefix) else { return Ok(()) };
        let now_ms = self.timeline.now_ms();
        let asked = Asked { namespace, generation: self.generation(namespace), now_ms };
        let hit = match read_record(asked, key, location, &segment) {
            // It was prolonged, or has expired, since it was asked for.
            Ok(hit) if location.expires_ms > now_ms && hit.remaining <= hit.ttl / 2 => hit,
            Ok(_) | Err(_) => return Ok(()),
        };
        let last_ms = hit.created_ms.saturating_add(milliseconds(TTL_MAX));
        let vector = &hit.vector;
        let record = Record {
            namespace,
            sequence: 0,
            generation: asked.generation,
            key: *key,
            created_ms: hit.created_ms,
            expires_ms: (now_ms + self.jittered_ms(key, hit.ttl)).min(last_ms),
            ttl_ms: milliseconds(hit.ttl),
            content: Content::of(vector),
        };
        let location = self.append(writer, &record, Class::of_remaining(hit.ttl), vector.precision)?;
        self.counters.moved.add(1);
        self.write_state().point(namespace, &prefix, location);
        Ok(())
    }
}
