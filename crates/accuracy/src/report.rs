//! The report: a table for people, JSON for programs, the same numbers in both.

use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;

use crate::{compare::Row, prompts::Prompts, server::Served};

/// How the report is written.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Form {
    /// For people.
    Table,
    /// One object, on one line.
    Json,
}

/// What an operator accepts, at every width.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub(crate) struct Thresholds {
    /// Least cosine of a text's two vectors.
    pub(crate) cosine_min: Option<f64>,
    /// Most nDCG@10 that the candidate may lose.
    pub(crate) ndcg_loss_max: Option<f64>,
}

/// All numbers of a run.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    reference: Asked,
    candidate: Asked,
    texts: usize,
    queries: usize,
    widths: Vec<Row>,
    thresholds: Thresholds,
    missed: Vec<String>,
}

/// One side: what was asked for and what answered.
#[derive(Debug, Serialize)]
struct Asked {
    asked: String,
    #[serde(flatten)]
    served: Served,
}

impl Report {
    /// Of the reference and the candidate, and the counts of texts and queries.
    pub(crate) fn new(
        sides: [(String, Served); 2],
        [texts, queries]: [usize; 2],
        widths: Vec<Row>,
        thresholds: Thresholds,
    ) -> Self {
        let [reference, candidate] = sides.map(|(asked, served)| Asked { asked, served });
        let missed = widths.iter().flat_map(|row| missed(row, thresholds)).collect();
        Self { reference, candidate, texts, queries, widths, thresholds, missed }
    }

    /// Whether a threshold was.
    pub(crate) fn is_missed(&self) -> bool {
        !self.missed.is_empty()
    }

    /// The report in the form asked for.
    ///
    /// # Errors
    /// Where it cannot be written as JSON.
    pub(crate) fn write(&self, form: Form) -> serde_json::Result<String> {
        match form {
            Form::Json => serde_json::to_string(self),
            Form::Table => Ok(self.to_text()),
        }
    }

    fn to_text(&self) -> String {
        let sides = [("reference", &self.reference), ("candidate", &self.candidate)];
        let mut lines: Vec<String> = sides.iter().map(|(name, side)| side.line(name)).collect();
        lines.push(self.table().to_string());
        lines.extend(self.notes());
        lines.extend(self.missed.iter().map(|missed| format!("missed: {missed}")));
        lines.join("\n")
    }

    fn table(&self) -> Table {
        let mut table = Table::new();
        table.load_style(presets::UTF8_FULL_CONDENSED);
        table.set_header([
            "\nwidth",
            "cosine\nmean",
            "cosine\nmin",
            "neighbours\nkept",
            "of full\nwidth's",
            "nDCG@10\nreference",
            "nDCG@10\ncandidate",
            "nDCG@10\nloss",
            "MRR@10\nreference",
            "MRR@10\ncandidate",
        ]);
        table.add_rows(self.widths.iter().map(|row| {
            [
                row.width.to_string(),
                format!("{:.6}", row.cosine_mean),
                format!("{:.6}", row.cosine_min),
                format!("{:.2} %", 100.0 * row.neighbours_kept),
                format!("{:.2} %", 100.0 * row.neighbours_kept_of_full),
                format!("{:.4}", row.reference.ndcg),
                format!("{:.4}", row.candidate.ndcg),
                format!("{:+.4} ± {:.4}", row.ndcg_loss, row.ndcg_loss_error),
                format!("{:.4}", row.reference.mrr),
                format!("{:.4}", row.candidate.mrr),
            ]
        }));
        for column in table.column_iter_mut() {
            column.set_cell_alignment(CellAlignment::Right);
        }
        table
    }

    fn notes(&self) -> Vec<String> {
        let mut notes = vec![
            format!(
                "{} texts, {} queries; cosines of all of them, reference and candidate cut to the same width",
                self.texts, self.queries
            ),
            "neighbours: of each text's ten nearest texts, those that the reference finds too, at the same and at its full width"
                .to_owned(),
            "nDCG, MRR: each query finds its text among all texts; one as near as the right one counts as nearer"
                .to_owned(),
            "loss: reference less candidate, ± its standard error over the queries".to_owned(),
        ];
        for (name, side) in [("reference", &self.reference), ("candidate", &self.candidate)] {
            let Prompts { query, text } = &side.served.prompts;
            if !query.is_empty() || !text.is_empty() {
                notes.push(format!("prompts of the {name}: `{query}` for queries, `{text}` for texts"));
            }
        }
        let trained = &self.reference.served.widths;
        let untrained = self.widths.iter().filter(|row| !trained.contains(&row.width));
        let untrained: Vec<_> = untrained.map(|row| row.width.to_string()).collect();
        if !untrained.is_empty() {
            notes.push(format!("widths the model was not trained for: {}", untrained.join(", ")));
        }
        if self.reference.served.identity != self.candidate.served.identity {
            notes.push("the two serve models of different identity: cosines say little".to_owned());
        }
        notes
    }
}

impl Asked {
    fn line(&self, name: &str) -> String {
        let Served { id, identity, precision, .. } = &self.served;
        let identity: String = identity.chars().take(12).collect();
        let asked = if self.asked == *precision { String::new() } else { format!(" at {}", self.asked) };
        format!("{name}: {precision}{asked}, {id}, identity {identity}")
    }
}

fn missed(row: &Row, thresholds: Thresholds) -> Vec<String> {
    let Thresholds { cosine_min, ndcg_loss_max } = thresholds;
    let (width, loss) = (row.width, row.ndcg_loss);
    let cosine = cosine_min.filter(|least| row.cosine_min < *least);
    let cosine =
        cosine.map(|least| format!("cosine at width {width} is {:.6}, the least is {least}", row.cosine_min));
    let ndcg = ndcg_loss_max.filter(|most| loss > *most);
    let ndcg = ndcg.map(|most| format!("loss of nDCG@10 at width {width} is {loss:.6}, the most is {most}"));
    cosine.into_iter().chain(ndcg).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::Retrieval;

    fn row(width: u32, cosine_min: f64, ndcg: f64) -> Row {
        Row {
            width,
            cosine_mean: 0.999_9,
            cosine_min,
            neighbours_kept: 0.987_5,
            neighbours_kept_of_full: 0.75,
            reference: Retrieval { ndcg: 0.9, mrr: 0.88 },
            candidate: Retrieval { ndcg, mrr: 0.87 },
            ndcg_loss: 0.9 - ndcg,
            ndcg_loss_error: 0.001_2,
        }
    }

    fn report(thresholds: Thresholds) -> Report {
        let served = |precision: &str, identity: &str| Served {
            id: "org/model".to_owned(),
            identity: identity.to_owned(),
            precision: precision.to_owned(),
            widths: vec![768],
            prompts: Prompts { query: "q: ".to_owned(), text: String::new() },
        };
        let sides = [
            ("float32".to_owned(), served("float32", "0123456789abcdef")),
            ("http://h:1".to_owned(), served("int8", "fedcba9876543210")),
        ];
        Report::new(sides, [600, 700], vec![row(768, 0.999, 0.895), row(256, 0.99, 0.88)], thresholds)
    }

    #[test]
    fn table_tells_sides_numbers_and_how_they_were_counted() {
        let text = report(Thresholds::default()).write(Form::Table).unwrap();
        for expected in [
            "reference: float32, org/model, identity 0123456789ab\n",
            "candidate: int8 at http://h:1, org/model, identity fedcba987654\n",
            "768",
            "0.999900",
            "0.990000",
            "98.75 %",
            "75.00 %",
            "+0.0050 ± 0.0012",
            "600 texts, 700 queries",
            "as near as",
            "different identity",
            "not trained for: 256",
            "prompts of the reference: `q: ` for queries, `` for texts",
        ] {
            assert!(text.contains(expected), "`{expected}` is missing in\n{text}");
        }
        assert!(!text.contains("missed"), "{text}");
    }

    #[test]
    fn thresholds_hold_for_every_width_and_name_what_missed() {
        let missed = |cosine_min, ndcg_loss_max| report(Thresholds { cosine_min, ndcg_loss_max }).missed;
        assert!(missed(None, None).is_empty());
        assert!(missed(Some(0.99), Some(0.0201)).is_empty());
        assert_eq!(missed(Some(0.995), None), ["cosine at width 256 is 0.990000, the least is 0.995"]);
        assert_eq!(missed(None, Some(0.01)), ["loss of nDCG@10 at width 256 is 0.020000, the most is 0.01"]);
        assert_eq!(missed(Some(1.0), Some(0.0)).len(), 4);
    }

    #[test]
    fn json_tells_the_same() {
        let report = report(Thresholds { cosine_min: Some(0.995), ndcg_loss_max: None });
        let json: serde_json::Value = serde_json::from_str(&report.write(Form::Json).unwrap()).unwrap();
        assert_eq!(json["candidate"]["asked"], "http://h:1");
        assert_eq!(json["candidate"]["precision"], "int8");
        assert_eq!(json["widths"][1]["width"], 256);
        assert_eq!(json["widths"][1]["candidate"]["ndcg"], 0.88);
        assert_eq!(json["widths"][0]["neighbours_kept_of_full"], 0.75);
        assert_eq!(json["missed"].as_array().unwrap().len(), 1);
    }
}
