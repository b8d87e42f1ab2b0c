//! What a registry may say instead of an answer, sorted by what a caller can do about it.

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// It can never be reached in this way.
    #[error("{0}")]
    Settings(String),
    /// Nobody answered, or not as HTTP: it may be away, and asking again may help.
    #[error("the schema registry at {url} does not answer: {what}")]
    Unreachable {
        /// Where.
        url: String,
        /// What the connection said.
        what: String,
    },
    /// It does not let us.
    #[error(
        "the schema registry at {url} refuses access (status {status}): {message}; see `registry.user` and its password, \
         and what this user may do"
    )]
    Unauthorised {
        /// Where.
        url: String,
        /// 401 or 403.
        status: u16,
        /// In its words.
        message: String,
    },
    /// It has no such id, subject or version.
    #[error("the schema registry at {url} has none: {message}")]
    NotFound {
        /// Where.
        url: String,
        /// In its words.
        message: String,
    },
    /// It refuses what was sent, for good.
    #[error("the schema registry at {url} refuses it (status {status}): {message}")]
    Refused {
        /// Where.
        url: String,
        /// The HTTP status, 409 for an incompatible schema.
        status: u16,
        /// In its words.
        message: String,
    },
    /// What answers there is not well, or no registry.
    #[error(
        "what answers at {url} is no schema registry with Confluent's API, or it is not well (status {status}): {message}; see \
         the path of `registry.url`"
    )]
    Unwell {
        /// Where.
        url: String,
        /// The HTTP status.
        status: u16,
        /// The beginning of what it said.
        message: String,
    },
}

impl Error {
    /// Whether the same question may be answered later, without anybody changing a setting of ours.
    pub fn may_heal(&self) -> bool {
        // A password may be let in later, and a proxy in front of a registry says 404 while that starts.
        !matches!(self, Self::Settings(_) | Self::NotFound { .. } | Self::Refused { .. })
    }
}
