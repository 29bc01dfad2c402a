//! The cache levels: L1 and L2 as the proxy counts them, and the shard as it sees itself.

use serde::Serialize;
use serde_json::{Value, json};

use super::service::{Kind, Look};

/// What is cached. The answers are passed on as they came, so that a field that is new here is not lost.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct Caches {
    /// The proxy's own level; null where it said nothing.
    pub(super) l1: Value,
    /// The shard as the proxy counts its answers.
    pub(super) l2: Value,
    /// Both levels together.
    pub(super) total: Value,
    /// Entries, bytes, segments, what it is degraded by, and hits and misses of all its callers.
    pub(super) shard: Value,
}

impl Caches {
    /// Takes what the service called `name` said.
    pub(super) fn add(&mut self, name: &str, look: &Look) {
        match Kind::of(name) {
            Kind::EmbeddingSingle => {
                self.l1 = look.cache_stats["l1"].clone();
                self.l2 = look.cache_stats["l2"].clone();
                self.total = look.cache_stats["total"].clone();
            }
            Kind::CacheShard if look.info.is_object() => self.shard = shard(look),
            Kind::CacheShard | Kind::MlBase | Kind::Balancer | Kind::Other => {}
        }
    }

    /// Share of looked up texts that were found in either level; none where none was looked up.
    pub(super) fn hit_rate(&self) -> Option<f64> {
        hit_rate(&self.total)
    }
}

/// Hits among hits and misses of one level; none before the first.
pub(super) fn hit_rate(level: &Value) -> Option<f64> {
    let (hits, misses) = (level["hits"].as_f64()?, level["misses"].as_f64()?);
    let all = hits + misses;
    (all > 0.0).then(|| hits / all)
}

fn shard(look: &Look) -> Value {
    let info = &look.info;
    let count =
        |name: &str| look.metrics.as_ref().and_then(|metrics| metrics.count(&format!("cache_shard_{name}")));
    json!({
        "entries": info["entries"],
        "bytes": info["bytes"],
        "segments": info["segments"],
        "degraded": info["degraded"],
        "hits": count("hits_total"),
        "misses": count("misses_total"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::openmetrics::Metrics;

    #[test]
    fn levels_come_from_the_proxy_and_the_shard_from_itself() {
        let mut caches = Caches::default();
        assert_eq!(caches.hit_rate(), None);
        let stats =
            json!({"l1": {"size": 3, "new": 1}, "l2": {"enabled": true}, "total": {"hits": 3, "misses": 1}});
        caches.add("embedding-single", &Look { cache_stats: stats, ..Look::default() });
        let info = json!({"entries": 5, "bytes": 600, "segments": 1, "degraded": null, "limits": {}});
        let metrics = Some(Metrics::parse("cache_shard_hits_total 8\ncache_shard_misses_total 2\n"));
        caches.add("cache-shard", &Look { info, metrics, ..Look::default() });
        assert_eq!(caches.l1, json!({"size": 3, "new": 1}));
        assert_eq!(caches.hit_rate(), Some(0.75));
        assert_eq!(hit_rate(&caches.shard), Some(0.8));
        assert_eq!(caches.shard["bytes"], 600);
    }

    #[test]
    fn level_that_was_never_asked_has_no_hit_rate() {
        assert_eq!(hit_rate(&json!({"hits": 0, "misses": 0})), None);
        assert_eq!(hit_rate(&Value::Null), None);
    }

    #[test]
    fn shard_that_said_nothing_is_null() {
        let mut caches = Caches::default();
        caches.add("cache-shard", &Look::default());
        assert_eq!(caches.shard, Value::Null);
    }
}
