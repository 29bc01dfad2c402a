//! Small text files that are replaced whole: a head with a version and a checksum, then lines.
//!
//! ```text
//!  MAGIC VERSION CRC32
//!  line …
//! ```

use std::fmt::Write;

/// Why a file is not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BadFile {
    Damaged,
    NewerVersion(u32),
}

/// The file of `body`, which consists of whole lines.
pub(super) fn seal(magic: &str, version: u32, body: &str) -> String {
    format!("{magic} {version} {:08x}\n{body}", checksum(version, body))
}

/// The body of a file of at most `version_max`.
///
/// # Errors
/// [`BadFile`]; a version is believed only where the checksum is right.
pub(super) fn unseal<'f>(magic: &str, version_max: u32, bytes: &'f [u8]) -> Result<&'f str, BadFile> {
    let text = std::str::from_utf8(bytes).map_err(|_| BadFile::Damaged)?;
    let (head, body) = text.split_once('\n').ok_or(BadFile::Damaged)?;
    let head: Vec<&str> = head.split(' ').collect();
    let [found_magic, version, found] = head[..] else { return Err(BadFile::Damaged) };
    let version: u32 = version.parse().map_err(|_| BadFile::Damaged)?;
    if found_magic != magic || found != format!("{:08x}", checksum(version, body)) {
        return Err(BadFile::Damaged);
    }
    if version > version_max { Err(BadFile::NewerVersion(version)) } else { Ok(body) }
}

fn checksum(version: u32, body: &str) -> u32 {
    crc32fast::hash(format!("{version}\n{body}").as_bytes())
}

/// Two digits a byte, for what may hold anything.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut hex, byte| {
        // Writing to a string does not fail.
        let _infallible = write!(hex, "{byte:02x}");
        hex
    })
}

/// The bytes of such digits.
pub(super) fn unhex(hex: &str) -> Option<Vec<u8>> {
    let (pairs, rest) = hex.as_bytes().as_chunks::<2>();
    let byte = |pair: &[u8; 2]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    if rest.is_empty() { pairs.iter().map(byte).collect() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_is_read_and_every_flip_and_cut_noticed() {
        let file = seal("magic", 1, "a line\nanother\n");
        assert_eq!(unseal("magic", 1, file.as_bytes()), Ok("a line\nanother\n"));
        assert_eq!(unseal("other", 1, file.as_bytes()), Err(BadFile::Damaged));
        for index in 0..file.len() {
            let mut flipped = file.clone().into_bytes();
            flipped[index] ^= 1;
            assert_eq!(unseal("magic", 1, &flipped), Err(BadFile::Damaged), "byte {index}");
            assert_eq!(
                unseal("magic", 1, &file.as_bytes()[..index]),
                Err(BadFile::Damaged),
                "length {index}"
            );
        }
    }

    #[test]
    fn newer_version_is_named() {
        assert_eq!(
            unseal("magic", 1, seal("magic", 9, "whatever").as_bytes()),
            Err(BadFile::NewerVersion(9))
        );
    }

    #[test]
    fn any_bytes_have_digits() {
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(unhex(&hex(&all)), Some(all));
        assert_eq!((unhex("0"), unhex("zz"), unhex("")), (None, None, Some(Vec::new())));
    }
}
