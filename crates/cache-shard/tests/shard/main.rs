//! The shard as its callers and its disk meet it.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]
#![expect(unreachable_pub, reason = "the modules of a test program")]

mod stock;

mod simulated;

mod model;

mod any_order;

mod beside_redb;

mod power;

mod proof;

mod evicted;

mod searched;

mod damaged;

mod refused;

mod broken;

mod memos;

mod door;

mod program;

mod killed;

mod rubbish;

mod stage;

mod mounted;
