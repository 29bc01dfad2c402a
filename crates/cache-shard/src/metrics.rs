//! The store's counts as metrics, read at the moment they are asked for.

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{counter::ConstCounter, gauge::ConstGauge},
};

use crate::slot::Slot;

/// Reads the counts of the store in a slot.
#[derive(Debug)]
pub struct StoreCollector(pub Slot);

impl Collector for StoreCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let stats = self.0.stats();
        let gauges = [
            ("entries", "entries that can be found", stats.entries),
            ("bytes", "bytes of all segments", stats.bytes),
            ("segments", "segments on the disk", stats.segments),
            ("index_bytes", "bytes of memory of the index", stats.index_bytes),
            ("degraded", "1 while the disk refuses writes or fsync", u64::from(stats.degraded.is_some())),
        ];
        for (name, help, value) in gauges {
            let gauge = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)?;
        }
        let counters = [
            ("hits", "keys that were found", stats.hits),
            ("misses", "keys that were not found", stats.misses),
            ("records_accepted", "records that were written", stats.accepted),
            ("records_kept", "records that were there already", stats.kept),
            ("records_refused", "records that were refused", stats.refused),
            ("entries_expired", "entries whose time to live had passed", stats.expired),
            ("entries_evicted", "entries that a budget pushed out", stats.evicted),
            (
                "records_moved",
                "records written once more, because they were used or their segment mostly dead",
                stats.moved,
            ),
            ("put_bytes", "bytes of the records that callers put", stats.put_bytes),
            ("written_bytes", "bytes of all that was written", stats.written_bytes),
            ("records_damaged", "records that failed a check", stats.damaged_records),
            ("segments_damaged", "segments that were set aside", stats.damaged_segments),
        ];
        for (name, help, value) in counters {
            let counter = ConstCounter::new(value);
            counter.encode(encoder.encode_descriptor(name, help, None, counter.metric_type())?)?;
        }
        Ok(())
    }
}
