//! A directory by path that ships only ONNX: its graphs stand where the weights do.

use std::path::Path;

use super::catalog::{FilePin, unpinned};
use super::digest::Sha256;
use super::error::FileFault;
use super::files;
use super::sums::Sums;
use super::verify::Values;

/// Bytes that loading takes for each byte of a graph: the file as it is handed over, and what ONNX Runtime makes of it.
const LOADED_FACTOR: u64 = 2;

/// The ONNX files of a directory without `model.safetensors`, at least one.
pub(super) struct Graphs<'a> {
    directory: &'a Path,
    names: Vec<&'static str>,
}

impl<'a> Graphs<'a> {
    /// `None` where the directory holds safetensors, or no ONNX either.
    pub(super) fn of(directory: &'a Path) -> Option<Self> {
        let names = engine::onnx_files(directory);
        (!names.is_empty()).then_some(Self { directory, names })
    }

    /// What to verify in place of the weights. Refuses the model where this build cannot compute it.
    pub(super) fn pins(&self) -> Result<Vec<FilePin>, FileFault> {
        if !engine::COMPUTES_ONNX {
            let reason =
                "this model ships only ONNX, which this build does not compute: build with --features onnx";
            return Err(FileFault::content(self.names[0], reason));
        }
        let mut pins = unpinned();
        pins.retain(|pin| pin.name != files::WEIGHTS);
        let pin = |name: &&str| FilePin { name: (*name).to_owned(), sha256: None, bytes: None };
        pins.extend(self.names.iter().map(pin));
        Ok(pins)
    }

    /// The sum of all graphs together, so that float32 and int8 of one directory are one model of two classes.
    pub(super) fn sum(&self, sums: &Sums) -> Result<Sha256, FileFault> {
        let mut graphs = Sums::default();
        for name in &self.names {
            let missing =
                || FileFault::Missing { name: (*name).to_owned(), directory: self.directory.to_owned() };
            graphs.insert(name, sums.get(name).ok_or_else(missing)?);
        }
        Ok(Sha256::of_bytes(graphs.to_string().as_bytes()))
    }

    /// The memory of the largest graph, told as numbers of float32: what is in a graph is known to its runtime alone.
    pub(super) fn values(&self) -> Result<Values, FileFault> {
        let mut largest = 0;
        for name in &self.names {
            let metadata = self.directory.join(name).metadata();
            largest = largest.max(metadata.map_err(|error| FileFault::read(name, error))?.len());
        }
        let float32_bytes = 4;
        Ok(Values { tables: (largest * LOADED_FACTOR).div_ceil(float32_bytes), matrices: 0 })
    }
}
