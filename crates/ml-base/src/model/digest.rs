//! SHA-256: the type, and hashing of files and streams.

use std::fmt;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;
use std::str::FromStr;

use sha2::Digest;

/// Bytes read at a time while hashing or copying: large enough that the system calls do not count.
pub(super) const BUFFER_BYTES: usize = 256 * 1024;

/// A SHA-256 sum. Prints as 64 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, serde::Deserialize)]
#[serde(try_from = "String")]
pub struct Sha256([u8; 32]);

impl Sha256 {
    /// The sum of `bytes`.
    #[must_use]
    pub fn of_bytes(bytes: &[u8]) -> Self {
        let mut hasher = Hasher::default();
        hasher.update(bytes);
        hasher.finish()
    }

    /// The sum of a file, read as a stream.
    ///
    /// # Errors
    /// The file cannot be opened or read.
    pub fn of_file(path: &Path) -> io::Result<Self> {
        let mut file = File::open(path)?;
        let mut hasher = Hasher::default();
        let mut buffer = vec![0; BUFFER_BYTES];
        loop {
            match file.read(&mut buffer)? {
                0 => return Ok(hasher.finish()),
                filled => hasher.update(&buffer[..filled]),
            }
        }
    }

    /// The 32 bytes of the sum.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// A new file that sums up what is written to it.
pub(super) struct SummedFile {
    file: File,
    hasher: Hasher,
}

impl SummedFile {
    /// Fails where there is a file already.
    pub(super) fn create_new(path: &Path) -> io::Result<Self> {
        Ok(Self { file: File::create_new(path)?, hasher: Hasher::default() })
    }

    /// Brings the file to the disk, and gives its sum.
    pub(super) fn finish(self) -> io::Result<Sha256> {
        self.file.sync_all()?;
        Ok(self.hasher.finish())
    }
}

impl Write for SummedFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// A SHA-256 in the making.
#[derive(Default)]
struct Hasher(sha2::Sha256);

impl Hasher {
    fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(self) -> Sha256 {
        Sha256(self.0.finalize().into())
    }
}

/// The text is not 64 hex digits.
#[derive(Debug, thiserror::Error)]
#[error("sha256 {0:?} is not 64 hex digits")]
pub struct NotASum(String);

impl FromStr for Sha256 {
    type Err = NotASum;

    fn from_str(text: &str) -> Result<Self, NotASum> {
        let refuse = || NotASum(text.to_owned());
        if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(refuse());
        }
        let mut sum = [0; 32];
        for (place, at) in sum.iter_mut().zip((0..64).step_by(2)) {
            *place = u8::from_str_radix(&text[at..at + 2], 16).map_err(|_| refuse())?;
        }
        Ok(Self(sum))
    }
}

impl TryFrom<String> for Sha256 {
    type Error = NotASum;

    fn try_from(text: String) -> Result<Self, NotASum> {
        text.parse()
    }
}

impl fmt::Display for Sha256 {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(&self.0, out)
    }
}

impl fmt::Debug for Sha256 {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(&self.0, out)
    }
}

/// Writes `bytes` as lower-case hex.
pub(super) fn write_hex(bytes: &[u8], out: &mut fmt::Formatter<'_>) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(out, "{byte:02x}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn sum_of_nothing_is_the_known_one_and_survives_its_text_form() {
        assert_eq!(Sha256::of_bytes(b"").to_string(), EMPTY);
        assert_eq!(EMPTY.parse::<Sha256>().unwrap(), Sha256::of_bytes(b""));
        assert_eq!(EMPTY.to_uppercase().parse::<Sha256>().unwrap(), Sha256::of_bytes(b""));
    }

    #[test]
    fn what_is_not_64_hex_digits_is_no_sum() {
        let signed = format!("+1{}", &EMPTY[2..]);
        for text in ["", "12ab", &EMPTY[1..], &signed, &"é".repeat(32)] {
            assert!(text.parse::<Sha256>().is_err(), "{text}");
        }
    }

    #[test]
    fn file_and_bytes_have_the_same_sum_across_buffer_borders() {
        let bytes = vec![7; BUFFER_BYTES + 1];
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), &bytes).unwrap();
        assert_eq!(Sha256::of_file(file.path()).unwrap(), Sha256::of_bytes(&bytes));
    }
}
