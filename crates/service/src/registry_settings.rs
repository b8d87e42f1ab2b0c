//! The `[registry]` section: how a schema registry is reached, with a password that nothing shows.

use std::{fmt, path::PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use twinlane_registry::{Client, Options};

use crate::Failure;

/// The `[registry]` section.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Registry {
    /// Address of a schema registry with Confluent's API, such as `https://registry:8081`. Without one, schemas come from
    /// the schema folder alone.
    pub url: Option<String>,
    /// User, for basic authentication.
    pub user: Option<String>,
    /// The user's password. Better in a file of its own or in the environment than in a settings file.
    #[schemars(with = "Option<String>")]
    pub password: Option<Password>,
    /// File that holds the password and nothing else.
    pub password_file: Option<PathBuf>,
    /// Certificates of the authorities that may vouch for the registry (PEM); without it, the system's.
    pub ca_file: Option<PathBuf>,
    /// For so long a record waits for the registry to say what its schema is, before it becomes a dead letter.
    pub wait_ms: u64,
}

impl Default for Registry {
    fn default() -> Self {
        Self { url: None, user: None, password: None, password_file: None, ca_file: None, wait_ms: 5_000 }
    }
}

/// A password, which is shown as such and no more.
#[derive(Clone, Deserialize)]
#[serde(transparent)]
pub struct Password(String);

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(twinlane_kafka::REDACTED)
    }
}

impl Serialize for Password {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(twinlane_kafka::REDACTED)
    }
}

impl Registry {
    /// Who is asked; none without an address.
    pub fn client(&self) -> Result<Option<Client>, Failure> {
        let Some(url) = self.url.as_deref().filter(|url| !url.is_empty()) else { return Ok(None) };
        let read = |setting: &str, file: &PathBuf| {
            std::fs::read(file)
                .map_err(|error| Failure::Invalid(format!("registry.{setting} {}: {error}", file.display())))
        };
        let password = match (&self.password, &self.password_file) {
            (Some(Password(password)), _) => Some(password.clone()),
            (None, Some(file)) => {
                let text = String::from_utf8(read("password_file", file)?).map_err(|_| {
                    Failure::Invalid(format!("registry.password_file {} is no text", file.display()))
                })?;
                Some(text.trim_end_matches(['\r', '\n']).to_owned())
            }
            (None, None) => None,
        };
        let user = match (self.user.clone().filter(|user| !user.is_empty()), password) {
            (Some(user), Some(password)) => Some((user, password)),
            (None, None) => None,
            (Some(_), None) => {
                let what = "registry.user is set and no password; give registry.password_file or TWINLANE_REGISTRY__PASSWORD";
                return Err(Failure::Invalid(what.into()));
            }
            (None, Some(_)) => {
                return Err(Failure::Invalid("a password for the registry, and no registry.user".into()));
            }
        };
        let authorities = self.ca_file.as_ref().map(|file| read("ca_file", file)).transpose()?;
        let options = Options { url: url.to_owned(), user, authorities };
        Ok(Some(Client::new(options)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registry() -> Registry {
        Registry { url: Some("http://registry:8081/".into()), ..Registry::default() }
    }

    #[test]
    fn a_password_is_shown_nowhere() {
        let settings = Registry { password: Some(Password("secret".to_owned())), ..registry() };
        let shown = format!("{settings:?}{}", serde_json::to_string(&settings).expect("serializes"));
        assert!(shown.contains(twinlane_kafka::REDACTED) && !shown.contains("secret"), "{shown}");
    }

    #[test]
    fn without_an_address_nobody_is_asked() {
        assert!(Registry::default().client().expect("valid").is_none());
        let empty = Registry { url: Some(String::new()), ..Registry::default() };
        assert!(empty.client().expect("valid").is_none(), "as a chart's empty value gives it");
        assert_eq!(registry().client().expect("valid").expect("set").url(), "http://registry:8081");
    }

    #[test]
    fn half_of_a_login_is_refused_and_says_what_is_missing() {
        let user = Registry { user: Some("u".into()), ..registry() };
        let error = user.client().err().expect("no password").to_string();
        assert!(error.contains("registry.password_file"), "{error}");
        let password = Registry { password: Some(Password("secret".to_owned())), ..registry() };
        let error = password.client().err().expect("no user").to_string();
        assert!(error.contains("registry.user") && !error.contains("secret"), "{error}");
        let file = Registry { user: Some("u".into()), password_file: Some("no-such".into()), ..registry() };
        let error = file.client().err().expect("no file").to_string();
        assert!(error.starts_with("registry.password_file no-such: "), "{error}");
    }
}
