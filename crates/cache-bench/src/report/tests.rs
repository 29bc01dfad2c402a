//! The report of a run that never was.

use std::{num::NonZeroUsize, time::Duration};

use super::*;
use crate::record::Record;

fn measured(engine: Engine, batch: usize, rates: &[f64], get_us: u64) -> Measured {
    let mut record = Record::new().unwrap();
    record.add_get(Duration::from_micros(get_us)).unwrap();
    record.add_put(Duration::from_micros(9), 10).unwrap();
    record.keys = 100;
    record.hits = 90;
    Measured {
        engine,
        cell: Cell { hits_percent: 99, batch: NonZeroUsize::new(batch).unwrap() },
        rates: rates.to_vec(),
        record,
        written_bytes: Some(20 * VECTOR_BYTES as u64),
    }
}

fn footprint(engine: Engine, entries: u64) -> Footprint {
    Footprint {
        engine,
        per_entry: PerEntry { memory_bytes: 63.0, disk_bytes: engine.is_persistent().then_some(1601.0) },
        index_bytes: None,
        write_amplification: None,
        restarts: Some(Restarts {
            entries,
            asked_seconds: 0.5,
            killed_seconds: 2.25,
            kept: engine.is_persistent(),
        }),
        bounded: Some(Bounded {
            bytes_max: 64 << 20,
            working_set: 7,
            hit_ratio: 0.5,
            write_amplification: None,
            memory_bytes: 70 << 20,
            disk_bytes: engine.is_persistent().then_some(65 << 20),
            wrong: 0,
        }),
    }
}

fn report() -> Report {
    let setting =
        Setting { entries: 100, clients: 8, rounds: 3, seconds: 5.0, seed: 1, directory: "/tmp".to_owned() };
    let mut at_90 = measured(Engine::CacheShard, 16, &[1.0], 9);
    at_90.cell.hits_percent = 90;
    let measured = [
        measured(Engine::CacheShard, 1, &[40.0, 50.0, 60.0], 400),
        measured(Engine::Redis, 1, &[90.0, 100.0, 110.0], 100),
        measured(Engine::CacheShard, 64, &[300.0], 10),
        measured(Engine::Redis, 64, &[200.0], 10),
        at_90,
    ];
    let footprints = vec![footprint(Engine::CacheShard, 1_000_000), footprint(Engine::Memcached, 1_000_000)];
    Report::new(setting, &measured, footprints)
}

#[test]
fn table_tells_ratios_to_redis_and_which_targets_are_missed() {
    let text = report().write(false).unwrap();
    for expected in [
        "40–60",
        "0.50",
        "MISSED: p50 of GetMany of 1 by that of GET of redis, at most 3; found 4.00",
        "met: keys/s of GetMany of 64 by those of MGET of redis, at least 1; found 1.50",
        "MISSED: write amplification at 90 % hits, at most 1.5; found 2.00",
        "MISSED: seconds until ready with a million vectors, at most 2; found 2.25",
        "0.50, empty",
        "1601",
        "50.0 %",
        "70 + 65",
    ] {
        assert!(text.contains(expected), "`{expected}` is missing in\n{text}");
    }
    assert!(!text.contains("WRONG"), "{text}");
}

#[test]
fn json_tells_the_same() {
    let json: serde_json::Value = serde_json::from_str(&report().write(true).unwrap()).unwrap();
    assert_eq!(json["speeds"][0]["keys_per_second"], 50.0);
    assert!((json["speeds"][0]["p50_by_redis"].as_f64().unwrap() - 4.0).abs() < 0.01);
    assert_eq!(json["footprints"][1]["disk_bytes"], serde_json::Value::Null);
    assert_eq!(json["footprints"][0]["restarts"]["killed_seconds"], 2.25);
    assert_eq!(json["targets"][0]["met"], false);
    assert_eq!(json["wrong_vectors"], 0);
}

#[test]
fn a_few_vectors_are_no_million() {
    let speeds = [];
    let met = targets::compare(&speeds, &[footprint(Engine::CacheShard, 1000)]);
    assert!(met.is_empty(), "{met:?}");
}

#[test]
fn median_of_an_even_count_lies_between_the_middle_two() {
    assert_eq!(median(&[4.0, 1.0, 3.0]), 3.0);
    assert_eq!(median(&[4.0, 1.0, 3.0, 2.0]), 2.5);
}
