//! The retrieval task: queries, texts, and which text answers which query.

use std::collections::HashMap;

use anyhow::{Context, ensure};
use serde::Deserialize;

use crate::{measure::NEIGHBOURS, prompts::Prompts};

const SHIPPED: &str = include_str!("../data/retrieval.jsonl");
/// Every text is compared with every other.
const PAIRS_MAX: usize = 50_000;

/// The task, each text once however many queries it answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pairs {
    /// What is searched for.
    pub(crate) queries: Vec<String>,
    /// What is searched.
    pub(crate) texts: Vec<String>,
    /// For each query the index of its text.
    pub(crate) answers: Vec<usize>,
}

#[derive(Deserialize)]
struct Pair {
    query: String,
    text: String,
}

impl Pairs {
    /// The set that is compiled in.
    ///
    /// # Errors
    /// Never, unless the set is damaged.
    pub(crate) fn shipped() -> anyhow::Result<Self> {
        Self::parse(SHIPPED).context("the set that ships")
    }

    /// Reads JSON lines; empty ones are skipped, fields beside `query` and `text` are not looked at.
    ///
    /// # Errors
    /// The first bad line by its number, and where there is too little or too much to compare.
    pub(crate) fn parse(jsonl: &str) -> anyhow::Result<Self> {
        let mut pairs = Self { queries: Vec::new(), texts: Vec::new(), answers: Vec::new() };
        let mut known = HashMap::new();
        for (index, line) in jsonl.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            let Pair { query, text } = read(line).with_context(|| format!("line {}", index + 1))?;
            let answer = *known.entry(text).or_insert_with_key(|text| {
                pairs.texts.push(text.clone());
                pairs.texts.len() - 1
            });
            pairs.queries.push(query);
            pairs.answers.push(answer);
            ensure!(pairs.queries.len() <= PAIRS_MAX, "there are more than {PAIRS_MAX} pairs");
        }
        let (found, least) = (pairs.texts.len(), NEIGHBOURS + 2);
        ensure!(
            found >= least,
            "there are {found} different texts, at least {least} are needed for {NEIGHBOURS} neighbours"
        );
        Ok(pairs)
    }

    /// All texts and then all queries, as they are sent with these prompts.
    pub(crate) fn with_prompts(&self, prompts: &Prompts) -> Vec<String> {
        let texts = self.texts.iter().map(|text| format!("{}{text}", prompts.text));
        texts.chain(self.queries.iter().map(|query| format!("{}{query}", prompts.query))).collect()
    }
}

fn read(line: &str) -> anyhow::Result<Pair> {
    let pair: Pair = serde_json::from_str(line).map_err(|error| {
        // Of the one line that the parser was given, its number says nothing.
        let text = error.to_string();
        let cause = text.split(" at line ").next().unwrap_or(&text);
        anyhow::anyhow!("{cause} (column {})", error.column())
    })?;
    for (field, value) in [("query", &pair.query), ("text", &pair.text)] {
        ensure!(!value.trim().is_empty(), "`{field}` is empty");
        ensure!(!value.contains('\0'), "`{field}` holds a NUL");
    }
    Ok(pair)
}

#[cfg(test)]
mod tests {
    use std::{collections::HashSet, fmt::Write};

    use super::*;

    fn lines(count: usize) -> String {
        (0..count).fold(String::new(), |mut all, index| {
            writeln!(all, r#"{{"query": "q{index}", "text": "t{index}", "topic": "any"}}"#).unwrap();
            all
        })
    }

    #[test]
    fn text_of_several_queries_is_one_text() {
        let pairs =
            Pairs::parse(&format!("{}\n{}", lines(12), r#"{"query": "again", "text": "t3"}"#)).unwrap();
        assert_eq!((pairs.queries.len(), pairs.texts.len()), (13, 12));
        assert_eq!(pairs.answers[12], 3);
    }

    #[test]
    fn bad_line_is_refused_by_number_and_cause() {
        for (line, cause) in [
            ("{\"query\": \"q\"}", "missing field `text`"),
            ("{\"query\": \"q\", \"text\": 7}", "invalid type: integer `7`, expected a string"),
            ("{\"query\": \" \", \"text\": \"t\"}", "`query` is empty"),
            ("{\"query\": \"q\", \"text\": \"a\\u0000\"}", "`text` holds a NUL"),
            ("query, text", "expected value"),
        ] {
            let error = Pairs::parse(&format!("{}\n{line}\n{}", lines(12), lines(1))).expect_err(line);
            let shown = format!("{error:#}");
            // Twelve lines, an empty one, and then this.
            assert!(shown.starts_with("line 14: ") && shown.contains(cause), "{shown}");
            assert!(!shown.contains("at line 1"), "{shown}");
        }
    }

    #[test]
    fn too_few_texts_are_refused() {
        let error = Pairs::parse(&lines(11)).unwrap_err().to_string();
        assert_eq!(error, "there are 11 different texts, at least 12 are needed for 10 neighbours");
    }

    #[test]
    fn texts_come_before_queries_each_with_its_prompt() {
        let pairs = Pairs::parse(&lines(12)).unwrap();
        let sent = pairs.with_prompts(&Prompts { query: "q: ".to_owned(), text: "d: ".to_owned() });
        assert_eq!((sent.len(), sent[1].as_str(), sent[13].as_str()), (24, "d: t1", "q: q1"));
    }

    #[test]
    fn shipped_set_has_512_pairs_of_unique_queries_and_texts() {
        let pairs = Pairs::shipped().unwrap();
        assert!(pairs.queries.len() >= 512, "{}", pairs.queries.len());
        assert_eq!(pairs.texts.len(), pairs.queries.len());
        assert_eq!(pairs.queries.iter().collect::<HashSet<_>>().len(), pairs.queries.len());
        assert!(SHIPPED.len() <= 400_000, "{} bytes", SHIPPED.len());
        for text in &pairs.texts {
            let words = text.split_whitespace().count();
            assert!((12..=125).contains(&words), "{words} words: {text}");
        }
    }
}
