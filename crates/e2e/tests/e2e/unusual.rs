//! Texts that are odd but no mistake: each has a vector, the same one at both doors.

use e2e::{Door, Grid, goldens, largest_delta};
use serde_json::json;

use crate::texts::text;

fn unusual_texts() -> Vec<String> {
    let mut texts: Vec<String> = [
        " ",
        "\n\t ",
        "[CLS]",
        "[SEP] [PAD] [MASK]",
        "\u{feff}mark",
        "\u{10ffff}",
        "e\u{301}\u{301}\u{301}",
        "\u{202e}abc",
        "👩‍👩‍👧‍👦",
    ]
    .map(str::to_owned)
    .into();
    // As many bytes as a text may have: one word, one repeated sign, words.
    texts.push("a".repeat(256 << 10));
    texts.push("字".repeat((256 << 10) / 3));
    texts.push("a ".repeat(128 << 10));
    texts
}

#[tokio::test(flavor = "multi_thread")]
async fn unusual_texts_have_one_finite_vector_each_at_both_doors() {
    let Some(grid) = Grid::start("unusual::unusual_texts_have_one_finite_vector_each_at_both_doors").await
    else {
        return;
    };
    let texts = unusual_texts();
    let (proxy, ml_base) = (grid.embed(&texts).await.rows(), grid.ml_base().embed(&texts).await.rows());
    for ((text, row), other) in texts.iter().zip(&proxy).zip(&ml_base) {
        let shown: String = text.chars().take(20).collect();
        let norm = row.iter().map(|number| number * number).sum::<f32>().sqrt();
        assert!((norm - 1.0).abs() < 1e-4, "{shown:?} has norm {norm}");
        assert!(largest_delta(row, other) <= 1e-6, "{shown:?} differs between the doors");
    }
}

async fn long_texts_at(door: Door, who: &str) {
    let goldens = goldens();
    // The last golden text is over the limit; the vector is that of its first 256 tokens.
    let long = goldens.last().unwrap();
    let mut client = door.connect().await;
    for asked in [json!({"inputs": long.text, "truncate": true}), json!({"texts": ["short", long.text]})] {
        let rows = client.ask(&asked).await.rows();
        long.assert_is(rows.last().unwrap(), who);
    }
    for (list, asked) in
        [("inputs", json!(long.text)), ("inputs", json!([long.text])), ("texts", json!([long.text]))]
    {
        let answer = client.ask(&json!({list: asked, "truncate": false})).await;
        let error = answer.json();
        assert_eq!(answer.status.as_u16(), 422, "{who}: {error}");
        assert_eq!(
            (&error["field"], &error["text_index"]),
            (&json!(format!("{list}[0]")), &json!(0)),
            "{who}"
        );
        let message = error["error"].as_str().unwrap();
        assert!(message.contains("tokens, the limit is 256"), "{who}: {message}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_text_over_the_models_limit_is_cut_or_refused_as_asked() {
    let Some(grid) = Grid::start("unusual::a_text_over_the_models_limit_is_cut_or_refused_as_asked").await
    else {
        return;
    };
    long_texts_at(grid.proxy(), "embedding-single").await;
    long_texts_at(grid.ml_base(), "ml-base").await;
    let both_ends = [text(1, 300), text(2, 300)].join(" ");
    let mut client = grid.connect().await;
    let left = client.ask(&json!({"inputs": both_ends, "truncation_direction": "left"})).await.rows();
    let right = client.ask(&json!({"inputs": both_ends, "truncation_direction": "right"})).await.rows();
    assert!(largest_delta(&left[0], &right[0]) > 1e-3, "the two ends have vectors of their own");
}
