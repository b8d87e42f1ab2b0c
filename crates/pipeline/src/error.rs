//! Refusals of a pipeline file.

use std::fmt;

use serde_saphyr::Location;

use crate::place::Place;

/// A pipeline file is wrong: where, what was found, and what would be right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// The file as the user named it.
    pub file: String,
    /// Line, from 1; 0 where the whole file is meant.
    pub line: u64,
    /// Column, from 1.
    pub column: u64,
    /// What was found and what would be right.
    pub message: String,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.file, self.message),
            line => write!(f, "{}:{line}:{}: {}", self.file, self.column, self.message),
        }
    }
}

impl std::error::Error for Error {}

impl Error {
    pub(crate) fn at(file: &str, place: Location, message: impl Into<String>) -> Self {
        Self { file: file.to_owned(), line: place.line(), column: place.column(), message: message.into() }
    }

    pub(crate) fn of(place: &Place, message: impl Into<String>) -> Self {
        let Place { file, line, column } = place;
        Self { file: file.to_string(), line: *line, column: *column, message: message.into() }
    }
}
