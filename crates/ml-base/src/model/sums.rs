//! `SHA256SUMS`: the sums of a model's files, in the format of `sha256sum`, so that people can check it too.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::Path;

use super::digest::Sha256;
use super::error::FileFault;
use super::files;

/// Sums by file name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Sums(pub(super) BTreeMap<String, Sha256>);

impl Sums {
    /// The listing of a directory; `None` where it has none.
    pub(super) fn read(directory: &Path) -> Result<Option<Self>, FileFault> {
        match std::fs::read_to_string(directory.join(files::SUMS)) {
            Ok(text) => Self::parse(&text).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(FileFault::read(files::SUMS, error)),
        }
    }

    fn parse(text: &str) -> Result<Self, FileFault> {
        let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
        let parsed = lines.map(|(at, line)| {
            let (sum, name) = line.split_once(' ').unwrap_or((line, ""));
            // The second column begins with a space for text, a star for binary.
            let name = name.strip_prefix([' ', '*']).unwrap_or(name);
            let name = name.strip_prefix("./").unwrap_or(name);
            match sum.parse() {
                Ok(sum) if !name.is_empty() => Ok((name.to_owned(), sum)),
                _ => Err(FileFault::content(
                    files::SUMS,
                    format!("line {} is not a sum and a file name", at + 1),
                )),
            }
        });
        parsed.collect::<Result<_, _>>().map(Self)
    }

    pub(super) fn get(&self, name: &str) -> Option<Sha256> {
        self.0.get(name).copied()
    }

    pub(super) fn insert(&mut self, name: &str, sum: Sha256) {
        self.0.insert(name.to_owned(), sum);
    }
}

impl fmt::Display for Sums {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|(name, sum)| writeln!(out, "{sum}  {name}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listing_survives_its_text_form() {
        let mut sums = Sums::default();
        sums.insert("config.json", Sha256::of_bytes(b"a"));
        sums.insert("1_Pooling/config.json", Sha256::of_bytes(b"b"));
        assert_eq!(Sums::parse(&sums.to_string()).unwrap(), sums);
    }

    #[test]
    fn listings_of_sha256sum_in_binary_mode_and_with_dots_are_read() {
        let sum = Sha256::of_bytes(b"a");
        let sums = Sums::parse(&format!("{sum} *./config.json\n\n{sum}  a b\n")).unwrap();
        assert_eq!(sums.get("config.json"), Some(sum));
        assert_eq!(sums.get("a b"), Some(sum));
    }

    #[test]
    fn line_that_is_no_sum_is_named() {
        let good = format!("{}  a\n", Sha256::of_bytes(b"a"));
        for bad in ["<html>", "12ab  config.json", good.trim_end_matches("a\n")] {
            let error = Sums::parse(&format!("{good}{bad}")).unwrap_err().to_string();
            assert_eq!(error, "SHA256SUMS: line 2 is not a sum and a file name", "{bad}");
        }
    }
}
