//! HTTP with one user, one certificate authority and one time limit.

use std::{fmt, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::de::DeserializeOwned;
use ureq::{Agent, http::Response};

use crate::{Error, Result, tls::trust};

/// How a registry is reached.
#[derive(Clone, Default)]
pub struct Options {
    /// Below it are `/subjects` and `/schemas`: `https://registry.example:8081`.
    pub url: String,
    /// User and password.
    pub user: Option<(String, String)>,
    /// Certificates of the authorities that are believed, as PEM; without them, the system's.
    pub authorities: Option<Vec<u8>>,
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let user = self.user.as_ref().map(|(user, _)| user);
        f.debug_struct("Options").field("url", &self.url).field("user", &user).finish_non_exhaustive()
    }
}

/// What every request has in common.
#[derive(Clone)]
pub(crate) struct Transport {
    agent: Agent,
    pub(crate) url: String,
    authorization: Option<String>,
}

/// A registry's answer, as far as it says what went wrong.
#[derive(serde::Deserialize)]
struct Complaint {
    error_code: u32,
    #[serde(default)]
    message: String,
}

const MEDIA: &str = "application/vnd.schemaregistry.v1+json";
/// No schema that is written by hand comes near.
const LONGEST: u64 = 4 << 20;
/// Of what answers and is no registry, for a log.
const EXCERPT: usize = 200;

impl Transport {
    pub(crate) fn new(options: Options, limit: Duration) -> Result<Self> {
        let url = options.url.trim_end_matches('/').to_owned();
        let Some((scheme, rest)) = url.split_once("://") else {
            return Err(Error::Settings(format!(
                "registry.url `{url}`: give it as http://HOST:PORT or https://…"
            )));
        };
        if rest.split('/').next().unwrap_or_default().contains('@') {
            let what = "registry.url holds a user; give `registry.user` and `registry.password_file` instead";
            return Err(Error::Settings(what.into()));
        }
        let tls = match scheme {
            "https" => {
                Some(trust("registry.ca_file", options.authorities.as_deref()).map_err(Error::Settings)?)
            }
            "http" => None,
            _ => return Err(Error::Settings(format!("registry.url `{url}`: neither http nor https"))),
        };
        let mut config = Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(limit))
            // A redirect would take the password to somebody else.
            .max_redirects(0)
            .proxy(None)
            .user_agent(concat!("twinlane/", env!("CARGO_PKG_VERSION")));
        if let Some(tls) = tls {
            config = config.tls_config(tls);
        }
        let authorization = options
            .user
            .map(|(user, password)| format!("Basic {}", STANDARD.encode(format!("{user}:{password}"))));
        Ok(Self { agent: config.build().new_agent(), url, authorization })
    }

    pub(crate) fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        let mut request = self.agent.get(self.at(path)).header("accept", MEDIA);
        if let Some(authorization) = &self.authorization {
            request = request.header("authorization", authorization);
        }
        self.answer(request.call())
    }

    pub(crate) fn post<T: DeserializeOwned>(&self, path: &str, body: &serde_json::Value) -> Result<T> {
        let mut request =
            self.agent.post(self.at(path)).header("accept", MEDIA).header("content-type", MEDIA);
        if let Some(authorization) = &self.authorization {
            request = request.header("authorization", authorization);
        }
        self.answer(request.send(body.to_string()))
    }

    fn at(&self, path: &str) -> String {
        format!("{}{path}", self.url)
    }

    fn answer<T: DeserializeOwned>(
        &self,
        response: std::result::Result<Response<ureq::Body>, ureq::Error>,
    ) -> Result<T> {
        let unreachable =
            |error: ureq::Error| Error::Unreachable { url: self.url.clone(), what: error.to_string() };
        let mut response = response.map_err(unreachable)?;
        let status = response.status().as_u16();
        let body = response.body_mut().with_config().limit(LONGEST).read_to_vec().map_err(unreachable)?;
        let url = self.url.clone();
        if (200..300).contains(&status)
            && let Ok(answer) = serde_json::from_slice(&body)
        {
            return Ok(answer);
        }
        let complaint: Option<Complaint> = serde_json::from_slice(&body).ok();
        let message = match &complaint {
            Some(complaint) => complaint.message.clone(),
            None => String::from_utf8_lossy(&body).chars().take(EXCERPT).collect(),
        };
        Err(match (status, complaint) {
            (401 | 403, _) => Error::Unauthorised { url, status, message },
            // 40401 subject, 40402 version, 40403 schema. Without one it is the path that does not exist.
            (404, Some(Complaint { error_code: 404 | 40401..=40499, .. })) => {
                Error::NotFound { url, message }
            }
            (409 | 422, Some(_)) => Error::Refused { url, status, message },
            _ => Error::Unwell { url, status, message },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(url: &str, authorities: Option<&str>) -> String {
        let authorities = authorities.map(|pem| pem.as_bytes().to_vec());
        let options = Options { url: url.into(), user: None, authorities };
        Transport::new(options, Duration::from_secs(1)).err().expect("refused").to_string()
    }

    #[test]
    fn an_address_that_cannot_be_is_refused_with_what_would_be_right() {
        assert!(refused("registry:8081", None).contains("http://HOST:PORT"));
        assert!(refused("ftp://registry", None).contains("neither http nor https"));
        let error = refused("https://u:secret@registry/", None);
        assert!(error.contains("registry.user") && !error.contains("secret"), "{error}");
        assert!(refused("https://registry", Some("no PEM")).contains("registry.ca_file"));
    }

    #[test]
    fn a_password_is_in_no_debug_output() {
        let user = Some(("u".to_owned(), "secret".to_owned()));
        let shown = format!("{:?}", Options { url: "http://r".into(), user, authorities: None });
        assert!(shown.contains("\"u\"") && !shown.contains("secret"), "{shown}");
    }
}
