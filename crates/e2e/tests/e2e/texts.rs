//! Texts that nobody has asked for yet.

const WORDS: [&str; 16] = [
    "river", "stone", "window", "garden", "winter", "letter", "bridge", "morning", "silver", "engine",
    "forest", "market", "kitchen", "shadow", "harbor", "music",
];

/// A text of about `words` tokens; each `number` gives another one.
pub(crate) fn text(number: usize, words: usize) -> String {
    let word = |place: usize| WORDS[(number * 7 + place * 5 + place / 16) % WORDS.len()];
    let words: Vec<_> = (0..words).map(word).collect();
    format!("{number} {}", words.join(" "))
}

/// A text that fills the model's limit of 256 tokens.
pub(crate) fn long_text(number: usize) -> String {
    text(number, 300)
}
