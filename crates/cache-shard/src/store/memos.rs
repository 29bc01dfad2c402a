//! Memos: small values by name, for what a caller must know before it can use what is stored. No clear and no budget
//! touches them.
//!
//! ```text
//!  file `memos`:   sutra-cache-memos VERSION CRC32
//!                  NAMESPACE NAME VALUE                       one line each, in hex
//! ```
//!
//! They are few and change seldom, so the file is replaced whole and brought to the disk before a memo is acknowledged.

use std::{collections::BTreeMap, sync::PoisonError};

use bytes::Bytes;

use super::{
    Store,
    sealed::{self, BadFile},
    sync::{Mutex, MutexGuard},
    trouble::{Change, Trouble},
    vector::NAMESPACE_BYTES_MAX,
};

/// The format this program writes and reads.
pub(super) const MEMOS_VERSION: u32 = 1;
pub(super) const FILE_NAME: &str = "memos";
const MAGIC: &str = "sutra-cache-memos";
/// Bytes of a memo's name.
pub const MEMO_NAME_BYTES_MAX: usize = 64;
/// Bytes of a memo.
pub const MEMO_BYTES_MAX: usize = 16 << 10;
/// Memos of all namespaces.
pub const MEMOS_MAX: usize = 64;

/// All memos, by namespace and name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Memos(BTreeMap<(String, String), Bytes>);

/// Why a memo is not kept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MemoError {
    /// It is outside its limits.
    #[error("{0}")]
    Invalid(String),
    /// There are as many as there may be.
    #[error("there are {MEMOS_MAX} memos already, which is the limit")]
    TooMany,
    /// The disk does not take it.
    #[error(transparent)]
    Disk(#[from] Trouble),
}

impl Memos {
    pub(super) fn encode(&self) -> String {
        let line = |((namespace, name), value): (&(String, String), &Bytes)| {
            let [namespace, name, value] =
                [namespace.as_bytes(), name.as_bytes(), value.as_ref()].map(sealed::hex);
            format!("{namespace} {name} {value}\n")
        };
        sealed::seal(MAGIC, MEMOS_VERSION, &self.0.iter().map(line).collect::<String>())
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, BadFile> {
        let body = sealed::unseal(MAGIC, MEMOS_VERSION, bytes)?;
        let memo = |line: &str| {
            let fields: Vec<&str> = line.split(' ').collect();
            let [namespace, name, value] = fields[..] else { return None };
            let text = |hex| String::from_utf8(sealed::unhex(hex)?).ok();
            Some(((text(namespace)?, text(name)?), Bytes::from(sealed::unhex(value)?)))
        };
        let memos: Option<BTreeMap<_, _>> = body.lines().map(memo).collect();
        memos.map(Self).ok_or(BadFile::Damaged)
    }
}

impl Store {
    /// Keeps `value` under `name` in `namespace`, in the place of what was there. It is on the disk itself afterwards.
    ///
    /// # Errors
    /// [`MemoError`]; what was there is answered on. If only the last fsync failed, the next start may find the new one.
    pub fn put_memo(&self, namespace: &str, name: &str, value: Bytes) -> Result<(), MemoError> {
        check(namespace, name, &value)?;
        let mut memos = lock(&self.memos);
        let key = (namespace.to_owned(), name.to_owned());
        if memos.0.get(&key) == Some(&value) {
            return Ok(());
        }
        if memos.0.len() >= MEMOS_MAX && !memos.0.contains_key(&key) {
            return Err(MemoError::TooMany);
        }
        let mut next = memos.clone();
        next.0.insert(key, value);
        let saved = self.disk.replace(FILE_NAME, next.encode().as_bytes());
        let saved = saved.map_err(|error| Trouble::new("the memos cannot be written", &error));
        if let Err(trouble) = &saved {
            self.note(Change::Write, Err(trouble));
        }
        saved?;
        *memos = next;
        Ok(())
    }

    /// What is kept under `name` in `namespace`.
    pub fn memo(&self, namespace: &str, name: &str) -> Option<Bytes> {
        lock(&self.memos).0.get(&(namespace.to_owned(), name.to_owned())).cloned()
    }
}

fn check(namespace: &str, name: &str, value: &Bytes) -> Result<(), MemoError> {
    let limits = [
        ("namespace", namespace.len(), NAMESPACE_BYTES_MAX),
        ("name", name.len(), MEMO_NAME_BYTES_MAX),
        ("value", value.len(), MEMO_BYTES_MAX),
    ];
    let over = limits.iter().find(|(_, bytes, bytes_max)| bytes > bytes_max);
    over.map_or(Ok(()), |(field, bytes, bytes_max)| {
        Err(MemoError::Invalid(format!("`{field}` has {bytes} bytes, the limit is {bytes_max}")))
    })
}

/// Nothing that can panic leaves the memos in halves.
fn lock(memos: &Mutex<Memos>) -> MutexGuard<'_, Memos> {
    memos.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let memo = |namespace: &str, name: &str, value: &'static [u8]| {
            ((namespace.to_owned(), name.to_owned()), Bytes::from_static(value))
        };
        let memos = Memos(BTreeMap::from([memo("", "models", b"\0\n "), memo("a b\n", "x", b"")]));
        assert_eq!(Memos::decode(memos.encode().as_bytes()), Ok(memos));
        assert_eq!(Memos::decode(Memos::default().encode().as_bytes()), Ok(Memos::default()));
    }

    #[test]
    fn lines_that_are_no_memos_are_damage() {
        for body in ["00 00\n", "00 00 00 00\n", "0 00 00\n", "ff 00 00\n"] {
            let file = sealed::seal(MAGIC, MEMOS_VERSION, body);
            assert_eq!(Memos::decode(file.as_bytes()), Err(BadFile::Damaged), "{body:?}");
        }
    }
}
