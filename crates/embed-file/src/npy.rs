//! The `.npy` file: float32, `(lines, dimensions)`, C order, a NaN row for each failed text.
//!
//! The number of rows is known last, and the width only with the first vector: until then failed rows are only
//! counted. All goes to a temporary file beside the target, which takes the target's name at the end.

use std::{
    fs::{File, Permissions},
    io::{self, BufWriter},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use npyz::{NpyWriter, WriteOptions, WriterBuilder};
use tempfile::NamedTempFile;

/// A `.npy` file in the making; dropped without [`NpyFile::commit`] it leaves nothing behind.
pub(crate) struct NpyFile {
    rows: Rows,
    file: NamedTempFile,
    target: PathBuf,
}

enum Rows {
    /// No vector yet, so many failed rows before it.
    Before {
        failed: u64,
    },
    Open {
        writer: NpyWriter<f32, BufWriter<File>>,
        width: usize,
    },
}

impl NpyFile {
    /// Starts a temporary file beside `target`.
    ///
    /// # Errors
    /// As the file system has it.
    pub(crate) fn create(target: &Path) -> io::Result<Self> {
        let folder =
            target.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        if target.is_dir() {
            return Err(io::Error::new(io::ErrorKind::IsADirectory, "it is a folder"));
        }
        let file = tempfile::Builder::new()
            .prefix(".embed-file-")
            .suffix(".npy.part")
            // What the umask leaves of it, as for any new file; temporary files are private otherwise.
            .permissions(Permissions::from_mode(0o666))
            .tempfile_in(folder)?;
        Ok(Self { rows: Rows::Before { failed: 0 }, file, target: target.to_owned() })
    }

    /// Adds a row; `None` is a failed text.
    ///
    /// # Errors
    /// As the file system has it, and where a row has another width than those before it.
    pub(crate) fn push(&mut self, row: Option<&[f32]>) -> io::Result<()> {
        match (&mut self.rows, row) {
            (Rows::Before { failed }, None) => *failed += 1,
            (Rows::Before { .. }, Some(row)) => {
                self.open(row.len())?;
                return self.push(Some(row));
            }
            (Rows::Open { writer, width }, None) => push_nan(writer, *width)?,
            (Rows::Open { width, .. }, Some(row)) if row.len() != *width => {
                let sentence = format!("a row has {} numbers, those before it have {width}", row.len());
                return Err(io::Error::new(io::ErrorKind::InvalidInput, sentence));
            }
            (Rows::Open { writer, .. }, Some(row)) => writer.extend(row.iter().copied())?,
        }
        Ok(())
    }

    /// Writes the true shape into the header and gives the file its name.
    ///
    /// # Errors
    /// As the file system has it.
    pub(crate) fn commit(mut self, width_if_unknown: usize) -> io::Result<()> {
        if matches!(self.rows, Rows::Before { .. }) {
            self.open(width_if_unknown)?;
        }
        if let Rows::Open { writer, .. } = self.rows {
            writer.finish()?;
        }
        self.file.as_file().sync_all()?;
        self.file.persist(&self.target).map_err(|error| error.error)?;
        Ok(())
    }

    fn open(&mut self, width: usize) -> io::Result<()> {
        if width == 0 {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "no text has a vector and the width is unknown",
            ));
        }
        let file = BufWriter::with_capacity(1 << 18, self.file.as_file().try_clone()?);
        let mut writer = WriteOptions::new().default_dtype().writer(file).begin_2d(width as u64)?;
        if let Rows::Before { failed } = self.rows {
            (0..failed).try_for_each(|_| push_nan(&mut writer, width))?;
        }
        self.rows = Rows::Open { writer, width };
        Ok(())
    }
}

fn push_nan(writer: &mut NpyWriter<f32, BufWriter<File>>, width: usize) -> io::Result<()> {
    writer.extend(std::iter::repeat_n(f32::NAN, width))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn left_in(folder: &Path) -> usize {
        folder.read_dir().unwrap().count()
    }

    fn rows() -> impl Strategy<Value = (usize, Vec<Option<Vec<f32>>>)> {
        (1_usize..6).prop_flat_map(|width| {
            let row = proptest::collection::vec(proptest::num::f32::ANY, width);
            (Just(width), proptest::collection::vec(proptest::option::of(row), 0..12))
        })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back_bit_for_bit((width, rows) in rows()) {
            let folder = tempfile::tempdir().unwrap();
            let target = folder.path().join("out.npy");
            let mut file = NpyFile::create(&target).unwrap();
            for row in &rows {
                file.push(row.as_deref()).unwrap();
            }
            file.commit(width).unwrap();

            let bytes = std::fs::read(&target).unwrap();
            let header_bytes = 10 + usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
            prop_assert_eq!(header_bytes % 16, 0);
            prop_assert_eq!(bytes.len(), header_bytes + rows.len() * width * 4);
            let array = npyz::NpyFile::new(bytes.as_slice()).unwrap();
            prop_assert_eq!(array.shape(), &[rows.len() as u64, width as u64]);
            prop_assert_eq!(array.order(), npyz::Order::C);
            let expected = rows.iter().flat_map(|row| row.clone().unwrap_or_else(|| vec![f32::NAN; width]));
            let read: Vec<u32> = array.into_vec::<f32>().unwrap().into_iter().map(f32::to_bits).collect();
            prop_assert_eq!(read, expected.map(f32::to_bits).collect::<Vec<_>>());
            prop_assert_eq!(left_in(folder.path()), 1);
        }
    }

    #[test]
    fn file_that_is_not_committed_leaves_nothing_and_keeps_the_old_one() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("out.npy");
        std::fs::write(&target, "old").unwrap();
        let mut file = NpyFile::create(&target).unwrap();
        file.push(Some(&[1.0, 2.0])).unwrap();
        drop(file);
        assert_eq!(std::fs::read(&target).unwrap(), b"old");
        assert_eq!(left_in(folder.path()), 1);
    }

    #[test]
    fn row_of_another_width_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = NpyFile::create(&folder.path().join("out.npy")).unwrap();
        file.push(Some(&[1.0, 2.0])).unwrap();
        let error = file.push(Some(&[1.0])).unwrap_err();
        assert_eq!(error.to_string(), "a row has 1 numbers, those before it have 2");
    }
}
