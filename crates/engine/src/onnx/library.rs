//! The library of ONNX Runtime, which this program is not linked with: found once, when the first model wants it.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use ort::environment::Environment;

use crate::error::LoadError;

/// Names the library's file.
const VARIABLE: &str = "ORT_DYLIB_PATH";

/// The one environment that a process may have. Kept for good: a second one is refused by the library.
static ENVIRONMENT: Mutex<Option<Environment>> = Mutex::new(None);

/// The environment of this process, made at the first call. A call after one that failed tries again.
///
/// # Errors
/// [`LoadError::OnnxLibrary`] names the file that was tried.
pub(super) fn environment() -> Result<Environment, LoadError> {
    let mut kept = ENVIRONMENT.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(environment) = &*kept {
        return Ok(environment.clone());
    }
    let made = make(&path())?;
    *kept = Some(made.clone());
    Ok(made)
}

/// The file that [`VARIABLE`] names, else the usual name, which the system's linker looks for.
fn path() -> PathBuf {
    let named = std::env::var_os(VARIABLE).filter(|path| !path.is_empty());
    let usual = || format!("{}onnxruntime{}", std::env::consts::DLL_PREFIX, std::env::consts::DLL_SUFFIX);
    named.map_or_else(|| usual().into(), PathBuf::from)
}

/// The library is loaded from here and nowhere else: without this, the crate `ort` loads it at its first use and panics
/// where it cannot. One that is too old is refused here too, before anything of it is called but its version.
fn make(path: &Path) -> Result<Environment, LoadError> {
    let failed =
        |reason: String| LoadError::OnnxLibrary { path: path.to_owned(), variable: VARIABLE, reason };
    let builder = ort::init_from(path).map_err(|error| failed(error.to_string()))?;
    builder.with_name("engine").with_telemetry(false).build().map_err(|error| failed(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_no_library_is_refused_by_name_and_can_be_tried_again() {
        let file = tempfile::NamedTempFile::new().unwrap();
        for path in [Path::new("no/such/libonnxruntime.so"), file.path()] {
            let error = make(path).unwrap_err().to_string();
            assert!(error.contains(&*path.to_string_lossy()) && error.contains(VARIABLE), "{error}");
        }
    }
}
