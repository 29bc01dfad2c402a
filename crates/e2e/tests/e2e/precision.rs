//! bfloat16: another class, kept in another form, and told in every answer.

use e2e::{Door, Grid, goldens, until};

/// Least cosine to the goldens, which are float32.
const COSINE_MIN: f32 = 0.9995;

fn texts() -> Vec<String> {
    goldens().into_iter().map(|golden| golden.text).collect()
}

fn cosine(a: &[f32], b: &[f32]) -> f32 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

async fn stored(proxy: Door, count: usize) {
    until("the vectors are in the shard", async || {
        let written = proxy.metric("embedding_single_l2_writes_total").await;
        (written == count as u64).then_some(())
    })
    .await;
}

/// What this machine computes by itself: bfloat16 where it has the instructions, float32 elsewhere. Both have to hold.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_machine_computes_by_itself_is_told_and_bit_equal_from_every_level() {
    let test = "precision::what_a_machine_computes_by_itself_is_told_and_bit_equal_from_every_level";
    let Some(mut grid) = Grid::builder(test).ml_base(&["--dtype", "auto"]).start().await else { return };
    let texts = texts();
    let computed = grid.embed(&texts).await;
    let info = grid.ml_base().get("/info").await.json();
    assert_eq!(info["models"][0]["precision"], computed.header("x-precision"));
    for (row, golden) in computed.rows().iter().zip(goldens()) {
        let cosine = cosine(row, &golden.vector);
        assert!(cosine >= COSINE_MIN, "{:?} has cosine {cosine}", golden.text);
    }
    stored(grid.proxy(), texts.len()).await;
    let from_l1 = grid.embed(&texts).await;
    let from_l2 = grid.start_proxy().await.embed(&texts).await;
    for found in [from_l1, from_l2] {
        assert_eq!(found.header("x-cache"), "hit");
        assert_eq!(found.header("x-precision"), computed.header("x-precision"));
        assert_eq!(found.rows_as_written(), computed.rows_as_written());
    }
}
