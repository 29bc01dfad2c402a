//! Two proxies and one shard: what one computed is everybody's, and a clear is everybody's too.

use e2e::{Door, Grid, goldens, until};
use serde_json::json;

fn texts() -> Vec<String> {
    goldens().into_iter().map(|golden| golden.text).collect()
}

/// Waits until this proxy has stored as many vectors as that.
async fn stored(proxy: Door, count: usize) {
    let is_stored = async || {
        let written = proxy.metric("embedding_single_l2_writes_total").await;
        (written == count as u64).then_some(())
    };
    until(&format!("{count} vectors are in the shard"), is_stored).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_proxy_computed_another_answers_bit_equal_from_the_shard() {
    let test = "shared::what_one_proxy_computed_another_answers_bit_equal_from_the_shard";
    let Some(mut grid) = Grid::start(test).await else { return };
    let texts = texts();
    let computed = grid.embed(&texts).await;
    stored(grid.proxy(), texts.len()).await;

    let other = grid.start_proxy().await;
    let found = other.embed(&texts).await;
    assert_eq!((found.header("x-cache"), grid.computed().await), ("hit", texts.len() as u64));
    assert_eq!(found.rows_as_written(), computed.rows_as_written());
    let again = other.embed(&texts).await;
    assert_eq!(again.rows_as_written(), computed.rows_as_written(), "the same from L1");
    let stats = other.get("/cache/stats").await.json();
    assert_eq!((&stats["l1"]["hits"], &stats["l2"]["hits"]), (&json!(texts.len()), &json!(texts.len())));
    assert_eq!(grid.shard().get("/health").await.json()["entries"], texts.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clear_at_one_proxy_empties_the_other_and_the_shard() {
    let test = "shared::a_clear_at_one_proxy_empties_the_other_and_the_shard";
    let Some(mut grid) = Grid::start(test).await else { return };
    let texts = texts();
    grid.embed(&texts).await.rows();
    stored(grid.proxy(), texts.len()).await;
    let other = grid.start_proxy().await;
    assert_eq!(other.embed(&texts).await.header("x-cache"), "hit");

    assert_eq!(grid.proxy().post("/cache/clear").await.json(), json!({"cleared": texts.len()}));
    let is_empty = async || (other.get("/cache/stats").await.json()["l1"]["size"] == 0).then_some(());
    until("the other proxy learns of the clear", is_empty).await;
    assert_eq!(other.embed(&texts).await.header("x-cache"), "miss");
    assert_eq!(grid.computed().await, 2 * texts.len() as u64);
}

#[tokio::test(flavor = "multi_thread")]
async fn proxies_of_different_namespaces_share_nothing_and_clear_alone() {
    let test = "shared::proxies_of_different_namespaces_share_nothing_and_clear_alone";
    let Some(mut grid) = Grid::start(test).await else { return };
    let texts = texts();
    let first = grid.embed(&texts).await;
    stored(grid.proxy(), texts.len()).await;
    let tenant = grid.start_proxy_with(&["--namespace", "tenant"]).await;
    assert_eq!(tenant.embed(&texts).await.header("x-cache"), "miss");
    stored(tenant, texts.len()).await;
    tenant.post("/cache/clear").await.json();

    let of_default = grid.start_proxy().await.embed(&texts).await;
    assert_eq!(of_default.header("x-cache"), "hit");
    assert_eq!(of_default.rows_as_written(), first.rows_as_written());
    let of_tenant = grid.start_proxy_with(&["--namespace", "tenant"]).await;
    assert_eq!(of_tenant.embed(&texts).await.header("x-cache"), "miss");
}
