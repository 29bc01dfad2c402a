//! What is looked at only when somebody asks for the metrics: how much memory is used, which shards are asked.

use std::{fmt, sync::Arc};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, gauge::ConstGauge},
};

use crate::{
    answer::rows::Rows,
    lookup::{
        l1::L1,
        l2::{L2, ShardState, Shown},
    },
    metrics::ShardLabel,
};

/// Reads which shards are asked when it is asked for.
#[derive(Debug)]
pub(crate) struct ShardsUp(pub(crate) Arc<L2>);

impl Collector for ShardsUp {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let help = "1 for a cache shard that is asked, 0 for one that is left alone";
        let mut family = encoder.encode_descriptor("l2_shard_up", help, None, MetricType::Gauge)?;
        for Shown { name, state, .. } in self.0.shown() {
            let gauge = ConstGauge::new(i64::from(state == ShardState::Up));
            gauge.encode(family.encode_family(&ShardLabel { shard: name })?)?;
        }
        Ok(())
    }
}

/// Reads the size when it is asked for, so that no write to the cache has to.
#[derive(Debug)]
pub(crate) struct SizeInMemory {
    /// The vectors.
    pub(crate) l1: Arc<L1>,
    /// What is printed of them.
    pub(crate) rows: Arc<Rows>,
}

impl Collector for SizeInMemory {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let size = self.l1.size();
        for (name, help, value) in [
            ("l1_entries", "vectors in L1", size.entries),
            ("l1_bytes", "bytes of L1, overhead included", size.bytes),
            ("rows_bytes", "bytes of vectors that are printed already, overhead included", self.rows.bytes()),
        ] {
            let gauge = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)?;
        }
        Ok(())
    }
}
