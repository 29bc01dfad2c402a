//! The checksum that a vector carries from program to program, over all that must not change on the way: here between a
//! proxy and a cache shard, in `inference` between ml-base and a proxy.

pub mod inference;

use crate::cache::{NewRecord, Record};

/// CRC-32 of a record found under `key`, with the bytes of its vector; see `Record.checksum`.
pub fn of_record(key: &[u8], record: &Record, vector: &[u8]) -> u32 {
    let Record { width, element_type, precision_class, tokens, truncated, identity, .. } = record;
    checksum(
        key,
        identity,
        [*width, bits(*element_type), bits(*precision_class), *tokens],
        *truncated,
        vector,
    )
}

/// CRC-32 of a record on its way into a shard; see `NewRecord.checksum`.
pub fn of_new_record(record: &NewRecord) -> u32 {
    let NewRecord { key, width, element_type, precision_class, tokens, truncated, identity, vector, .. } =
        record;
    let numbers = [*width, bits(*element_type), bits(*precision_class), *tokens];
    checksum(key, identity, numbers, *truncated, vector)
}

fn bits(number: i32) -> u32 {
    u32::from_le_bytes(number.to_le_bytes())
}

fn checksum(key: &[u8], identity: &[u8], numbers: [u32; 4], truncated: bool, vector: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(key);
    hasher.update(identity);
    numbers.iter().for_each(|number| hasher.update(&number.to_le_bytes()));
    hasher.update(&[truncated.into()]);
    hasher.update(vector);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        Record { width: 1, element_type: 1, precision_class: 1, tokens: 7, ..Record::default() }
    }

    #[test]
    fn both_ways_agree_and_the_number_is_that_of_every_build() {
        let new = NewRecord {
            key: vec![1; 32].into(),
            width: 1,
            element_type: 1,
            precision_class: 1,
            tokens: 7,
            vector: vec![1, 2, 3, 4].into(),
            ..NewRecord::default()
        };
        assert_eq!(of_new_record(&new), of_record(&[1; 32], &record(), &[1, 2, 3, 4]));
        assert_eq!(of_new_record(&new), PINNED);
    }

    /// By zlib, of the same bytes.
    const PINNED: u32 = 1_899_836_905;

    #[test]
    fn whatever_changes_is_noticed() {
        let right = of_record(&[1; 32], &record(), &[1, 2, 3, 4]);
        let others = [
            of_record(&[2; 32], &record(), &[1, 2, 3, 4]),
            of_record(&[1; 32], &record(), &[1, 2, 3, 5]),
            of_record(&[1; 32], &Record { tokens: 8, ..record() }, &[1, 2, 3, 4]),
            of_record(&[1; 32], &Record { truncated: true, ..record() }, &[1, 2, 3, 4]),
            of_record(&[1; 32], &Record { precision_class: 2, ..record() }, &[1, 2, 3, 4]),
            of_record(&[1; 32], &Record { identity: vec![1].into(), ..record() }, &[1, 2, 3, 4]),
        ];
        assert!(!others.contains(&right));
    }
}
