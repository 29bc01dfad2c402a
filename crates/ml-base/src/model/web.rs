//! One HTTP client for hub and index: short patience to connect, redirects followed by hand, credentials kept at home.

use std::io::{Read, Write};
use std::path::Path;
use std::time::Duration;

use http::{HeaderMap, StatusCode, header};
use ureq::tls::{RootCerts, TlsConfig};

use service::config::Secret;

use super::address::Address;
use super::digest::{BUFFER_BYTES, Sha256, SummedFile};
use super::error::SourceFault;
use super::progress::Progress;

/// A hub that cannot be reached must not hold up the first run.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A server may think this long before it answers, and pause this long while it sends.
const SILENCE_MAX: Duration = Duration::from_secs(30);
const REDIRECTS_MAX: usize = 5;
/// A longer page is no index page.
const PAGE_BYTES_MAX: u64 = 16 << 20;
/// A longer file is no model of ours: an unpinned download cannot fill the disk.
const FILE_BYTES_MAX: u64 = 16 << 30;

/// The client, with the certificates that the platform trusts.
pub(super) struct Web {
    agent: ureq::Agent,
}

/// What to ask for.
#[derive(Clone, Copy)]
pub(super) struct Request<'a> {
    pub(super) address: &'a Address,
    /// Whole `Authorization` value; goes to the address's own scheme, host and port only.
    pub(super) authorization: Option<&'a Secret>,
    pub(super) accept: &'a str,
}

/// An answer with status 200, its body not read yet.
pub(super) struct Answer {
    /// Where the redirects ended.
    pub(super) address: Address,
    /// Headers of all answers of the host that was asked first: the hub puts a file's sum on its redirect.
    origin_headers: HeaderMap,
    headers: HeaderMap,
    body: ureq::Body,
}

impl Web {
    pub(super) fn new() -> Self {
        let tls = TlsConfig::builder().root_certs(RootCerts::PlatformVerifier).build();
        let agent = ureq::Agent::config_builder()
            .tls_config(tls)
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .timeout_resolve(Some(CONNECT_TIMEOUT))
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .timeout_recv_response(Some(SILENCE_MAX))
            .timeout_per_read(Some(SILENCE_MAX))
            .user_agent(concat!("sutra-ml-base/", env!("CARGO_PKG_VERSION")))
            .build()
            .new_agent();
        Self { agent }
    }

    /// Asks, and follows redirects. `None` is a 404.
    pub(super) fn get(&self, request: Request<'_>) -> Result<Option<Answer>, SourceFault> {
        let mut address = request.address.clone();
        let mut origin_headers = HeaderMap::new();
        for _ in 0..=REDIRECTS_MAX {
            let at_home = request.address.same_origin(&address);
            let authorization = request.authorization.filter(|_| at_home);
            let (head, body) = self.send(&address, request.accept, authorization)?;
            if at_home {
                origin_headers.extend(head.headers.clone());
            }
            match head.status {
                StatusCode::OK => {
                    return Ok(Some(Answer { address, origin_headers, headers: head.headers, body }));
                }
                StatusCode::NOT_FOUND => return Ok(None),
                status if status.is_redirection() => address = target(&address, &head.headers)?,
                status => return Err(refused(&address, status, request.authorization.is_some())),
            }
        }
        Err(fault(request.address, format!("more than {REDIRECTS_MAX} redirects")))
    }

    fn send(
        &self,
        address: &Address,
        accept: &str,
        authorization: Option<&Secret>,
    ) -> Result<(http::response::Parts, ureq::Body), SourceFault> {
        let mut call = self.agent.get(address.to_string()).header(header::ACCEPT, accept);
        if let Some(authorization) = authorization {
            call = call.header(header::AUTHORIZATION, authorization.expose());
        }
        let response = call.call().map_err(|error| fault(address, reason(error)))?;
        Ok(response.into_parts())
    }
}

impl Answer {
    /// A header that the host which was asked put on its answer or on a redirect.
    pub(super) fn origin_header(&self, name: &str) -> Option<&str> {
        self.origin_headers.get(name)?.to_str().ok()
    }

    /// A header of the answer itself.
    pub(super) fn header(&self, name: header::HeaderName) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The whole body as text.
    pub(super) fn into_text(self) -> Result<String, SourceFault> {
        let mut text = String::new();
        let mut body = self.body.into_reader().take(PAGE_BYTES_MAX + 1);
        body.read_to_string(&mut text).map_err(|error| fault(&self.address, error.to_string()))?;
        if text.len() as u64 > PAGE_BYTES_MAX {
            return Err(fault(&self.address, format!("page is longer than {PAGE_BYTES_MAX} bytes")));
        }
        Ok(text)
    }

    /// Streams the body into a new file at `path`, synced, and gives its sum. A short body is an error.
    pub(super) fn into_file(
        self,
        path: &Path,
        name: &str,
        progress: &dyn Progress,
    ) -> Result<Sha256, SourceFault> {
        let announced = self.header(header::CONTENT_LENGTH).and_then(|length| length.parse().ok());
        progress.begin(name, announced);
        let copied = self.copy_into(path, announced, progress);
        progress.end();
        copied
    }

    fn copy_into(
        self,
        path: &Path,
        announced: Option<u64>,
        progress: &dyn Progress,
    ) -> Result<Sha256, SourceFault> {
        let mut body = self.body.into_reader();
        let mut file = SummedFile::create_new(path)?;
        let mut buffer = vec![0; BUFFER_BYTES];
        let mut came = 0;
        loop {
            let lost = |error| fault(&self.address, format!("broke off after {came} bytes: {error}"));
            let filled = body.read(&mut buffer).map_err(lost)?;
            if filled == 0 {
                break;
            }
            came += filled as u64;
            if came > announced.unwrap_or(FILE_BYTES_MAX) {
                return Err(fault(&self.address, format!("longer than {} bytes", came - filled as u64)));
            }
            file.write_all(&buffer[..filled])?;
            progress.advance(filled as u64);
        }
        if announced.is_some_and(|announced| announced != came) {
            return Err(fault(&self.address, format!("broke off after {came} bytes")));
        }
        Ok(file.finish()?)
    }
}

fn target(from: &Address, headers: &HeaderMap) -> Result<Address, SourceFault> {
    let location = headers.get(header::LOCATION).and_then(|location| location.to_str().ok());
    let to = location
        .and_then(|location| from.join(location).ok())
        .ok_or_else(|| fault(from, "redirect without a usable location"))?;
    if from.loses_encryption(&to) {
        return Err(fault(from, "redirect from https to http"));
    }
    Ok(to)
}

/// What went wrong, without the library's own label in front.
fn reason(error: ureq::Error) -> String {
    if let ureq::Error::Io(error) = error { error.to_string() } else { error.to_string() }
}

fn refused(address: &Address, status: StatusCode, had_credentials: bool) -> SourceFault {
    let advice = match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN if had_credentials => {
            ", the credentials were not accepted"
        }
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => ", no credentials were sent",
        _ => "",
    };
    fault(address, format!("HTTP {}{advice}", status.as_u16()))
}

/// A fault of this address. The query is left off: signed links carry their signature there.
pub(super) fn fault(address: &Address, reason: impl Into<String>) -> SourceFault {
    let url = address.to_string();
    let url = url.split('?').next().unwrap_or_default().to_owned();
    SourceFault::Web { url, reason: reason.into() }
}
