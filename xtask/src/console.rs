//! The only place that prints. A terminal that has gone away (a closed pipe, a finished `--detach`) is no reason to stop.

use std::fmt::Display;
use std::io::{self, Write};

/// One line of result, on standard output.
pub(crate) fn say(line: impl Display) {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).ok();
}

/// One line about what is going on or went wrong, on standard error.
pub(crate) fn warn(line: impl Display) {
    writeln!(io::stderr().lock(), "{line}").ok();
}

/// Rows as columns padded to their widest cell, the last column left as it is.
pub(crate) fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells: Vec<String> =
            row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        cells.join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_pads_every_column_to_its_widest_cell() {
        let rows = [
            vec!["a".to_owned(), "long cell".to_owned(), "x".to_owned()],
            vec!["wide".to_owned(), "b".to_owned(), String::new()],
        ];
        assert_eq!(table(&rows), "a     long cell  x\nwide  b");
    }
}
