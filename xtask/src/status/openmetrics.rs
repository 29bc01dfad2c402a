//! What `GET /metrics` says: samples by name and labels.

use super::histogram::Histogram;

/// The labels of a sample.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Labels(Vec<(String, String)>);

impl Labels {
    /// The value of the label `name`; empty where there is none.
    pub(super) fn get(&self, name: &str) -> &str {
        self.0.iter().find(|(label, _)| label == name).map_or("", |(_, value)| value)
    }
}

#[derive(Debug, PartialEq)]
struct Sample {
    name: String,
    labels: Labels,
    value: f64,
}

/// All samples of one service at one moment.
#[derive(Debug)]
pub(super) struct Metrics(Vec<Sample>);

impl Metrics {
    /// Reads the text. Lines that are no samples are passed over.
    pub(super) fn parse(text: &str) -> Self {
        Self(text.lines().filter_map(sample).collect())
    }

    /// The sum of all samples called `name`; none where there are none.
    pub(super) fn sum(&self, name: &str) -> Option<f64> {
        self.sum_where(name, |_| true)
    }

    /// That sum as a whole number.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "it is a count, and `as` saturates"
    )]
    pub(super) fn count(&self, name: &str) -> Option<u64> {
        self.sum(name).map(|sum| sum as u64)
    }

    /// The sum of those samples called `name` whose labels pass; none where no sample has that name.
    pub(super) fn sum_where(&self, name: &str, passes: impl Fn(&Labels) -> bool) -> Option<f64> {
        let mut named = self.0.iter().filter(|sample| sample.name == name).peekable();
        named.peek()?;
        Some(named.filter(|sample| passes(&sample.labels)).map(|sample| sample.value).sum())
    }

    /// The histogram of all samples called `name` whose labels pass.
    pub(super) fn histogram_where(&self, name: &str, passes: impl Fn(&Labels) -> bool) -> Option<Histogram> {
        let name = format!("{name}_bucket");
        let mut buckets: Vec<(f64, f64)> = Vec::new();
        for sample in self.0.iter().filter(|sample| sample.name == name && passes(&sample.labels)) {
            let bound = upper_bound(sample.labels.get("le"))?;
            match buckets.iter_mut().find(|(known, _)| *known == bound) {
                Some((_, count)) => *count += sample.value,
                None => buckets.push((bound, sample.value)),
            }
        }
        Histogram::new(buckets)
    }
}

fn upper_bound(le: &str) -> Option<f64> {
    if le == "+Inf" { Some(f64::INFINITY) } else { le.parse().ok() }
}

fn sample(line: &str) -> Option<Sample> {
    let name_end = line.find(['{', ' ']).filter(|_| !line.starts_with('#'))?;
    let (name, rest) = line.split_at(name_end);
    let (labels, rest) = match rest.strip_prefix('{') {
        Some(rest) => labels(rest)?,
        None => (Labels::default(), rest),
    };
    let value = rest.split_whitespace().next()?.parse().ok()?;
    Some(Sample { name: name.to_owned(), labels, value })
}

/// The labels up to the closing brace, and what comes behind it. Values may hold braces and commas themselves.
fn labels(mut rest: &str) -> Option<(Labels, &str)> {
    let mut labels = Labels::default();
    loop {
        rest = rest.trim_start_matches(',');
        if let Some(behind) = rest.strip_prefix('}') {
            return Some((labels, behind));
        }
        let (name, quoted) = rest.split_once("=\"")?;
        let (value, behind) = quoted_value(quoted)?;
        labels.0.push((name.to_owned(), value));
        rest = behind;
    }
}

/// The text up to the closing quote, unescaped, and what comes behind it.
fn quoted_value(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut escaped = false;
    for (at, character) in text.char_indices() {
        match (escaped, character) {
            (true, 'n') => value.push('\n'),
            (false, '"') => return Some((value, &text[at + 1..])),
            (false, '\\') => {}
            (_, other) => value.push(other),
        }
        escaped = !escaped && character == '\\';
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
# HELP x_requests requests answered.
# TYPE x_requests counter
x_requests_total{path=\"/embed\",status=\"200\"} 7
x_requests_total{path=\"/sutra.inference.v1.Inference/{*rest}\",status=\"503\"} 2
x_requests_in_flight 3
x_odd{a=\"q\\\"u,o}te\\\\\\n\"} 1.5 1700000000
x_seconds_bucket{le=\"0.5\"} 1
x_seconds_bucket{le=\"+Inf\"} 2
# EOF
";

    #[test]
    fn samples_are_summed_by_name_and_label() {
        let metrics = Metrics::parse(TEXT);
        assert_eq!(metrics.sum("x_requests_in_flight"), Some(3.0));
        assert_eq!(metrics.sum("x_requests_total"), Some(9.0));
        let refused = metrics.sum_where("x_requests_total", |labels| labels.get("status").starts_with('5'));
        assert_eq!(refused, Some(2.0));
        assert_eq!(metrics.sum_where("x_requests_total", |labels| labels.get("path") == "/"), Some(0.0));
        assert_eq!(metrics.sum("x_requests"), None);
        assert_eq!(metrics.count("x_requests_total"), Some(9));
    }

    #[test]
    fn label_may_hold_quotes_braces_and_line_ends() {
        let metrics = Metrics::parse(TEXT);
        let odd = |labels: &Labels| labels.get("a") == "q\"u,o}te\\\n";
        assert_eq!(metrics.sum_where("x_odd", odd), Some(1.5));
    }

    #[test]
    fn histogram_is_made_of_its_buckets() {
        let metrics = Metrics::parse(TEXT);
        assert!(metrics.histogram_where("x_seconds", |_| true).is_some());
        assert!(metrics.histogram_where("x_seconds", |labels| labels.get("path") == "/").is_none());
        assert!(metrics.histogram_where("x", |_| true).is_none());
    }

    #[test]
    fn what_is_no_metrics_has_no_samples() {
        for text in ["", "{\"status\": \"ready\"}", "x{a=\"b", "x{a=b} 1", "x one", "<html>", "x"] {
            assert_eq!(Metrics::parse(text).0, [], "{text}");
        }
    }
}
