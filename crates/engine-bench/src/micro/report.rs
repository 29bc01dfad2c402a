//! The figures of kernels, as a table or as JSON.

use anyhow::Result;
use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;

use crate::machine::Machine;

/// What one kernel takes.
#[derive(Debug, Serialize)]
pub(super) struct Figure {
    /// What it is computed with.
    pub(super) instructions: &'static str,
    pub(super) kernel: &'static str,
    pub(super) shape: String,
    pub(super) microseconds: f64,
    /// Operations or bytes a second; none where it is hidden behind another kernel.
    pub(super) rate: Option<f64>,
    /// What the rate is shown in.
    pub(super) unit: &'static str,
    /// Part of what the machine could do.
    pub(super) share: Option<f64>,
}

/// All figures of a run.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) machine: Machine,
    pub(super) figures: Vec<Figure>,
}

const NOTES: &str = "\
one thread, the fastest of all runs; share: of the rate of the same instructions on operands in the L1 cache (Gop/s), or of a copy in the L2 \
cache (GB/s), both measured in the same run; hidden: it adds less than a twentieth to the product it is a part of";

impl Report {
    /// As JSON on one line, or as a table with notes.
    ///
    /// # Errors
    /// Never with the figures here; serde_json checks them.
    pub(super) fn write(&self, json: bool) -> Result<String> {
        if json {
            return Ok(serde_json::to_string(self)?);
        }
        let Machine { cpu, cores, load_average } = &self.machine;
        let machine = format!("{cores} cores of {cpu}; load average when it began: {load_average}");
        Ok(format!("{}\n{NOTES}\n{machine}", self.table()))
    }

    fn table(&self) -> Table {
        let mut table = Table::new();
        table.load_style(presets::UTF8_FULL_CONDENSED);
        table.set_header(["with", "kernel", "shape", "µs", "rate", "share"]);
        for figure in &self.figures {
            table.add_row([
                figure.instructions.to_owned(),
                figure.kernel.to_owned(),
                figure.shape.clone(),
                format!("{:.0}", figure.microseconds),
                figure
                    .rate
                    .map_or_else(|| "hidden".to_owned(), |rate| format!("{:.1} {}", rate / 1e9, figure.unit)),
                figure.share.map_or_else(|| "–".to_owned(), |share| format!("{:.0} %", 100.0 * share)),
            ]);
        }
        for column in table.column_iter_mut().skip(3) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        table
    }
}
